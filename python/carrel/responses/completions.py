"""The chat completions of one tenant that were asked to be kept, each with the messages that it was asked with.

They lie beside the responses, in the same database. Old ones go by age, then by number and by size.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import apsw

from carrel.clock import Clock
from carrel.errors import InvalidRequest, NotFound, TooLarge
from carrel.responses.book import KEPT, MOST_BYTES, as_text, make_room, micros, moment_of
from carrel.store.sqlite import transaction
from carrel.store.tenants import TenantDatabases
from carrel.tenancy.handle import Tenant

Json = dict[str, Any]
PAGE_BYTES: Final = 4 << 20
"""The most that a page has, where it is of more than one: a tenant's may be of 256 MiB together."""
_GONE: Final = "There is no such completion: it was not kept (`store: true` asks for that), was deleted, or is too old."


@dataclass(frozen=True, slots=True)
class Completion:
    """One of them. ``body`` is what its caller reads, ``model`` the one that was asked for: the vendor may say another.

    ``owner`` is the member it belongs to, where members are apart.
    """

    body: Json
    messages: tuple[Json, ...]
    model: str
    created: datetime
    owner: str = ""

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.body["id"])

    @property
    def metadata(self) -> Mapping[str, str]:
        """What its caller noted with it."""
        return self.body.get("metadata") or {}


@dataclass(frozen=True, slots=True)
class Written:
    """A completion without its messages. ``text`` is what its caller reads, in JSON: a page is never unpacked."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which completions are listed: of ``model`` and with all of ``metadata``; ``after`` is an id to go on after."""

    limit: int
    after: str | None = None
    model: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    newest_first: bool = False


class Completions:
    """Those of all tenants. ``databases`` hold what `upgrade` makes."""

    def __init__(self, *, clock: Clock, databases: TenantDatabases) -> None:
        self._clock = clock
        self._databases = databases

    async def keep(self, tenant: Tenant, completion: Completion) -> None:
        """Write ``completion`` down; returns when it is on the disk. Raises TooLarge, AlreadyThere."""
        await self._databases.run(tenant, put(completion, now=self._clock.now()))

    async def get(self, tenant: Tenant, completion_id: str) -> Completion:
        """One of the tenant's, with its messages; raises NotFound."""
        return await self._databases.run(tenant, get(tenant.own or "", completion_id, now=self._clock.now()))

    async def read(self, tenant: Tenant, completion_id: str) -> Written:
        """One of the tenant's as its caller reads it; raises NotFound."""
        return await self._databases.run(tenant, read(tenant.own or "", completion_id, now=self._clock.now()))

    async def note(self, tenant: Tenant, completion_id: str, metadata: Mapping[str, str]) -> Written:
        """The same with ``metadata`` in place of what was noted; raises NotFound."""
        now = self._clock.now()
        return await self._databases.run(tenant, note(tenant.own or "", completion_id, metadata, now=now))

    async def remove(self, tenant: Tenant, completion_id: str) -> None:
        """Forget one; raises NotFound."""
        await self._databases.run(tenant, remove(tenant.own or "", completion_id))

    async def page(self, tenant: Tenant, wanted: Wanted) -> tuple[list[Written], bool]:
        """A page of them, of `PAGE_BYTES` at most or of one alone, and whether more follow.

        Raises InvalidRequest for an ``after`` that is not among them.
        """
        return await self._databases.run(tenant, page(tenant.own or "", wanted, now=self._clock.now()))


def upgrade(connection: apsw.Connection) -> None:
    """The schema."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS completions (id TEXT NOT NULL, owner TEXT NOT NULL, created INTEGER NOT NULL, "
        "model TEXT NOT NULL, metadata TEXT NOT NULL, messages TEXT NOT NULL, body TEXT NOT NULL, "
        "size INTEGER NOT NULL, PRIMARY KEY (owner, id)) WITHOUT ROWID"
    )
    connection.execute("CREATE INDEX IF NOT EXISTS completions_by_age ON completions (created)")


def put(completion: Completion, *, now: datetime) -> Callable[[apsw.Connection], None]:
    """Keep ``completion``; raises TooLarge for one that would not fit alone, AlreadyThere for an id that is taken."""
    texts = [as_text(value) for value in (dict(completion.metadata), list(completion.messages), completion.body)]
    size = sum(len(text.encode()) for text in texts)
    if size > MOST_BYTES:
        raise TooLarge(f"A completion of {size} bytes is too large to be kept; leave `store` out.", param="store")

    def work(connection: apsw.Connection) -> None:
        with transaction(connection):
            connection.execute("DELETE FROM completions WHERE created < ?", (micros(now - KEPT),))
            connection.execute(
                "INSERT INTO completions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (completion.id, completion.owner, micros(completion.created), completion.model, *texts, size),
            )
            make_room(connection, "completions")

    return work


def get(owner: str, completion_id: str, *, now: datetime) -> Callable[[apsw.Connection], Completion]:
    """One completion; raises NotFound."""

    def work(connection: apsw.Connection) -> Completion:
        return _one(connection, owner, completion_id, since=micros(now - KEPT))

    return work


def read(owner: str, completion_id: str, *, now: datetime) -> Callable[[apsw.Connection], Written]:
    """One completion without its messages; raises NotFound."""

    def work(connection: apsw.Connection) -> Written:
        return _written(connection, owner, completion_id, since=micros(now - KEPT))

    return work


def note(
    owner: str, completion_id: str, metadata: Mapping[str, str], *, now: datetime
) -> Callable[[apsw.Connection], Written]:
    """Note ``metadata`` with a completion; raises NotFound."""

    def work(connection: apsw.Connection) -> Written:
        with transaction(connection):
            body: Json = json.loads(read(owner, completion_id, now=now)(connection).text)
            text = as_text(body | {"metadata": dict(metadata)})
            connection.execute(
                "UPDATE completions SET metadata = ?, body = ? WHERE owner = ? AND id = ?",
                (as_text(dict(metadata)), text, owner, completion_id),
            )
            return Written(completion_id, text)

    return work


def remove(owner: str, completion_id: str) -> Callable[[apsw.Connection], None]:
    """Forget a completion; raises NotFound."""

    def work(connection: apsw.Connection) -> None:
        with transaction(connection):
            _written(connection, owner, completion_id, since=0)
            connection.execute("DELETE FROM completions WHERE owner = ? AND id = ?", (owner, completion_id))

    return work


def page(
    owner: str, wanted: Wanted, *, now: datetime
) -> Callable[[apsw.Connection], tuple[list[Written], bool]]:  # fmt: skip
    """A page of ``owner``'s completions, and whether more follow; raises InvalidRequest.

    It ends before the one that would make it longer than `PAGE_BYTES`, but has one.
    """
    way, beyond = ("DESC", "<") if wanted.newest_first else ("ASC", ">")
    since = micros(now - KEPT)
    where, values = ["owner = ?"], [owner]
    if wanted.model is not None:
        where, values = [*where, "model = ?"], [*values, wanted.model]
    for name, value in wanted.metadata:
        where.append("EXISTS (SELECT 1 FROM json_each(metadata) WHERE key = ? AND value = ?)")
        values += [name, value]

    def work(connection: apsw.Connection) -> tuple[list[Written], bool]:
        asked: list[str | int] = [*values, since]
        conditions = [*where, "created >= ?"]
        if wanted.after is not None:
            last = connection.execute(
                "SELECT created FROM completions WHERE owner = ? AND id = ? AND created >= ?",
                (owner, wanted.after, since),
            ).fetchone()
            if last is None:
                raise InvalidRequest("`after` names no completion that is kept.", param="after")
            conditions.append(f"(created, id) {beyond} (?, ?)")
            asked += [_number(last[0]), wanted.after]
        rows = connection.execute(
            f"SELECT id FROM completions WHERE {' AND '.join(conditions)} "  # noqa: S608 - of our own words alone
            f"ORDER BY created {way}, id {way} LIMIT ?", (*asked, wanted.limit + 1),
        ).fetchall()  # fmt: skip
        found: list[Written] = []
        left = PAGE_BYTES
        for (completion_id,) in rows[: wanted.limit]:
            one = _written(connection, owner, str(completion_id), since=since)
            left -= len(one.text.encode())
            if found and left < 0:
                break
            found.append(one)
        return found, len(rows) > len(found)

    return work


def _written(connection: apsw.Connection, owner: str, completion_id: str, *, since: int) -> Written:
    row = connection.execute(
        "SELECT body FROM completions WHERE owner = ? AND id = ? AND created >= ?", (owner, completion_id, since)
    ).fetchone()  # fmt: skip
    if row is None:
        raise NotFound(_GONE)
    return Written(completion_id, str(row[0]))


def _one(connection: apsw.Connection, owner: str, completion_id: str, *, since: int) -> Completion:
    row = connection.execute(
        "SELECT body, messages, model, created, owner FROM completions WHERE owner = ? AND id = ? AND created >= ?",
        (owner, completion_id, since),
    ).fetchone()
    if row is None:
        raise NotFound(_GONE)
    body, messages, model, created, owner = row
    made = moment_of(created)
    return Completion(json.loads(str(body)), tuple(json.loads(str(messages))), str(model), made, str(owner))


def _number(column: object) -> int:
    assert isinstance(column, int)  # noqa: S101 - the column's type
    return column
