"""The responses of one tenant, in its own database: each with the items that it was asked with.

A conversation is a chain of them, each naming the one before. Old ones go by age, then by number and by size.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import apsw

from carrel.errors import NotFound, TooLarge
from carrel.store.sqlite import transaction

Json = dict[str, Any]
KEPT: Final = timedelta(days=30)
MOST: Final = 10_000
MOST_BYTES: Final = 256 << 20
LONGEST: Final = 1_000
"""Responses in one conversation."""
ENDED: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Kept:
    """A response. ``body`` is what its caller reads, ``items`` what it was asked with, ``previous`` the one before it.

    ``session`` is the agent's where one made it. ``events`` are those of its stream, where it was made in the
    background as one. ``owner`` is the member it belongs to, where members are apart.
    """

    body: Json
    items: tuple[Json, ...]
    created: datetime
    previous: str | None = None
    session: str | None = None
    owner: str = ""
    events: tuple[Json, ...] = field(default=())

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.body["id"])

    @property
    def status(self) -> str:
        """How it stands."""
        return str(self.body.get("status"))

    def ended(self, body: Json) -> "Kept":
        """The same response with ``body``."""
        return replace(self, body={**body, "id": self.id})


def upgrade(connection: apsw.Connection) -> None:
    """The schema."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS responses (id TEXT NOT NULL, owner TEXT NOT NULL, created INTEGER NOT NULL, "
        "previous TEXT, session TEXT, items TEXT NOT NULL, body TEXT NOT NULL, events TEXT NOT NULL, "
        "size INTEGER NOT NULL, PRIMARY KEY (owner, id)) WITHOUT ROWID"
    )
    connection.execute("CREATE INDEX IF NOT EXISTS by_age ON responses (created)")


def put(kept: Kept, *, now: datetime) -> Callable[[apsw.Connection], None]:
    """Keep ``kept``, in place of what has its id; raises TooLarge for one that would not fit alone."""
    texts = [as_text(value) for value in (list(kept.items), kept.body, list(kept.events))]
    size = sum(len(text.encode()) for text in texts)
    if size > MOST_BYTES:
        raise TooLarge(f"A response of {size} bytes is too large to be kept; ask with `store: false`.", param="store")

    def work(connection: apsw.Connection) -> None:
        with transaction(connection):
            connection.execute("DELETE FROM responses WHERE created < ?", (micros(now - KEPT),))
            connection.execute(
                "INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (kept.id, kept.owner, micros(kept.created), kept.previous, kept.session, *texts, size),
            )
            make_room(connection, "responses")

    return work


def make_room(connection: apsw.Connection, table: Literal["responses", "completions"]) -> None:
    """Let the oldest of ``table`` go where there are too many, or too much."""
    count, size = connection.execute(f"SELECT count(*), coalesce(sum(size), 0) FROM {table}").fetchall()[0]  # noqa: S608 - of our own words alone
    over, much = int(count or 0) - MOST, int(size or 0) - MOST_BYTES
    if over <= 0 and much <= 0:
        return
    oldest = connection.execute(f"SELECT owner, id, size FROM {table} ORDER BY created, id").fetchall()  # noqa: S608 - as above
    for owner, its_id, one in oldest:
        if over <= 0 and much <= 0:
            return
        connection.execute(f"DELETE FROM {table} WHERE owner = ? AND id = ?", (owner, its_id))  # noqa: S608 - as above
        over, much = over - 1, much - int(one or 0)


def get(owner: str, response_id: str, *, now: datetime) -> Callable[[apsw.Connection], Kept]:
    """One response; raises NotFound."""

    def work(connection: apsw.Connection) -> Kept:
        return _read(connection, owner, response_id, since=micros(now - KEPT))

    return work


def chain(owner: str, response_id: str, *, now: datetime) -> Callable[[apsw.Connection], list[Kept]]:
    """A response and those before it, oldest first; raises NotFound where one of them is gone."""

    def work(connection: apsw.Connection) -> list[Kept]:
        found: list[Kept] = []
        following: str | None = response_id
        while following is not None and len(found) < LONGEST:
            found.append(_read(connection, owner, following, since=micros(now - KEPT)))
            following = found[-1].previous
        return found[::-1]

    return work


def remove(owner: str, response_id: str) -> Callable[[apsw.Connection], None]:
    """Forget a response; raises NotFound."""

    def work(connection: apsw.Connection) -> None:
        with transaction(connection):
            _read(connection, owner, response_id, since=0)
            connection.execute("DELETE FROM responses WHERE owner = ? AND id = ?", (owner, response_id))

    return work


def _read(connection: apsw.Connection, owner: str, response_id: str, *, since: int) -> Kept:
    row = connection.execute(
        "SELECT body, items, created, previous, session, events FROM responses "
        "WHERE owner = ? AND id = ? AND created >= ?", (owner, response_id, since),
    ).fetchone()  # fmt: skip
    if row is None:
        raise NotFound("There is no such response: it was not kept, was deleted, or is too old.")
    body, items, created, previous, session, events = row
    return Kept(
        body=json.loads(str(body)), items=tuple(json.loads(str(items))), created=moment_of(created),
        previous=None if previous is None else str(previous), session=None if session is None else str(session),
        owner=owner, events=tuple(json.loads(str(events))),
    )  # fmt: skip


def as_text(value: object) -> str:
    """``value`` as JSON; text that no encoding can carry as it can be."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()


def micros(moment: datetime) -> int:
    """``moment`` as the column `created` has it: microseconds since 1970."""
    return int(moment.timestamp() * 1_000_000)


def moment_of(column: object) -> datetime:
    """The same from that column."""
    assert isinstance(column, int)  # noqa: S101 - the column's type
    return datetime.fromtimestamp(column / 1_000_000, UTC)
