"""What one tenant's channels remember, in its own database: messages until they are answered, and how accounts stand.

A message is in the inbox, once, before the platform is told that it came; an answer is there before any of it is sent.
So whoever comes after a kill goes on where it stopped. ``place`` is an account with the bot that it is: the numbers of
messages are a bot's own.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import apsw
from pydantic import BaseModel, ConfigDict

from carrel.channels import people
from carrel.channels.admission import verdict
from carrel.channels.inbound import Batch, Inbound
from carrel.channels.people import Asking
from carrel.declare.channels import Channel
from carrel.store.sqlite import transaction

MOST_OF_CHAT: Final = 20
"""Messages of one chat that may wait."""
MOST_WAITING: Final = 1000
"""Messages of one account that may wait; until there are less, the platform keeps the rest."""
LIFE: Final = timedelta(hours=24)
"""What waits longer is given up, as the platform itself would."""
_REMEMBERED: Final = timedelta(days=7)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Standing(BaseModel):
    """How an account stands. ``stopped``: by command, until one starts it."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    stopped: bool = False
    linked: bool = False
    bot: str = ""
    name: str = ""
    last_error: str | None = None
    last_inbound: datetime | None = None
    last_outbound: datetime | None = None
    last_probe: datetime | None = None


class Waiting(BaseModel):
    """A message that is not answered yet. ``again``: it was being answered when a gateway died.

    ``answer`` is set once there is one; ``sent`` counts its pieces that are out.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    message: Inbound
    again: bool = False
    answer: str | None = None
    sent: int = 0


class Taken(BaseModel):
    """What became of a batch: chats that something is to be done for, who asked to be let in, how many are kept."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    chats: frozenset[str] = frozenset()
    asked: tuple[Asking, ...] = ()
    waiting: int = 0
    kept: int = 0


def upgrade(connection: apsw.Connection) -> None:
    """The schema."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS accounts (account TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID"
    )
    connection.execute("CREATE TABLE IF NOT EXISTS offsets (place TEXT PRIMARY KEY, following INTEGER) WITHOUT ROWID")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS inbox (place TEXT, number INTEGER, chat TEXT NOT NULL, state TEXT NOT NULL, "
        "body TEXT NOT NULL, answer TEXT, sent INTEGER NOT NULL, arrived INTEGER NOT NULL, "
        "PRIMARY KEY (place, number)) WITHOUT ROWID"
    )
    connection.execute("CREATE INDEX IF NOT EXISTS open_inbox ON inbox (place, chat) WHERE state != 'done'")
    people.upgrade(connection)


# --- how accounts stand ---


def standing(connection: apsw.Connection, account: str) -> Standing:
    """How an account stands."""
    row = connection.execute("SELECT body FROM accounts WHERE account = ?", (account,)).fetchone()
    return Standing() if row is None else Standing.model_validate_json(str(row[0]))


def note(connection: apsw.Connection, account: str, **changes: Any) -> Standing:
    """Write down what changed of it."""
    with transaction(connection):
        return _note(connection, account, changes)


def _note(connection: apsw.Connection, account: str, changes: dict[str, Any]) -> Standing:
    now = standing(connection, account).model_copy(update=changes)
    connection.execute(
        "INSERT INTO accounts VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET body = excluded.body",
        (account, now.model_dump_json()),
    )
    return now


def forget(connection: apsw.Connection, account: str) -> None:
    """Forget all of an account but that it is stopped: what waits, and how far it had come."""
    prefix = f"{account}@"
    with transaction(connection):
        for table in ("inbox", "offsets"):
            connection.execute(f"DELETE FROM {table} WHERE substr(place, 1, ?) = ?", (len(prefix), prefix))  # noqa: S608 - two names of ours
        connection.execute(
            "INSERT INTO accounts VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET body = excluded.body",
            (account, Standing(stopped=True).model_dump_json()),
        )


# --- messages ---


def following(connection: apsw.Connection, place: str) -> int | None:
    """The number to go on from, None where nothing came yet."""
    row = connection.execute("SELECT following FROM offsets WHERE place = ?", (place,)).fetchone()
    return None if row is None else int(str(row[0]))


def take_in(
    connection: apsw.Connection, account: str, place: str, channel: Channel, batch: Batch, *, now: datetime
) -> Taken:
    """Judge each message and keep those that are to be answered, with how far the account has come, all at once."""
    chats: set[str] = set()
    asked: list[Asking] = []
    kept = 0
    name = account.partition("/")[0]
    with transaction(connection):
        for message in batch.messages:
            if _is_known(connection, place, message.number):
                continue
            judged = verdict(channel, message, paired=people.is_paired(connection, name, message.sender))
            if judged == "ignore":
                continue
            if judged == "pair":
                asking = people.ask(connection, name, account, message, now=now)
                asked += [asking] if asking is not None else []
                answer: str | None = asking.told if asking is not None else ""
            else:
                answer = _answer_at_once(connection, place, message)
            if answer == "":
                continue
            state = "waiting" if answer is None else "answered"
            connection.execute(
                "INSERT INTO inbox VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
                (place, message.number, message.chat.key, state, message.model_dump_json(), answer, _micros(now)),
            )
            chats.add(message.chat.key)
            kept += 1
        if batch.following is not None:
            connection.execute(
                "INSERT INTO offsets VALUES (?, ?) ON CONFLICT (place) DO UPDATE SET following = excluded.following",
                (place, batch.following),
            )
        if chats:
            _note(connection, account, {"last_inbound": now})
            old = _micros(now - _REMEMBERED)
            connection.execute("DELETE FROM inbox WHERE place = ? AND state = 'done' AND arrived < ?", (place, old))
    return Taken(chats=frozenset(chats), asked=tuple(asked), waiting=waiting(connection, place), kept=kept)


def _answer_at_once(connection: apsw.Connection, place: str, message: Inbound) -> str | None:
    """What is answered without the agent; None where the agent is to answer, empty where nobody does."""
    ahead = _count(connection, place, message.chat.key)
    if ahead >= MOST_OF_CHAT:
        return f"That was not taken: {ahead} of your messages wait already." if ahead == MOST_OF_CHAT else ""
    if message.unread is not None and not message.text:
        return f"Only text is understood here, and that was a {message.unread.replace('_', ' ')}."
    return None


def waiting(connection: apsw.Connection, place: str) -> int:
    """How many messages of an account wait."""
    found = connection.execute("SELECT count(*) FROM inbox WHERE place = ? AND state != 'done'", (place,)).fetchall()
    return int(str(found[0][0]))


def chats(connection: apsw.Connection, place: str) -> Sequence[str]:
    """The chats in which something waits."""
    rows = connection.execute("SELECT DISTINCT chat FROM inbox WHERE place = ? AND state != 'done'", (place,))
    return [str(row[0]) for row in rows.fetchall()]


def begin(connection: apsw.Connection, place: str, chat: str, *, now: datetime) -> Waiting | None:
    """The first message of a chat that waits, from now on being answered; None where none does."""
    with transaction(connection):
        connection.execute(
            "UPDATE inbox SET state = 'done' WHERE place = ? AND chat = ? AND state != 'done' AND arrived < ?",
            (place, chat, _micros(now - LIFE)),
        )
        row = connection.execute(
            "SELECT number, state, body, answer, sent FROM inbox WHERE place = ? AND chat = ? AND state != 'done' "
            "ORDER BY number LIMIT 1",
            (place, chat),
        ).fetchone()
        if row is None:
            return None
        number, state, body, answer, sent = row
        if state == "waiting":
            connection.execute(
                "UPDATE inbox SET state = 'asked' WHERE place = ? AND number = ?", (place, number)
            )  # fmt: skip
    return Waiting(
        message=Inbound.model_validate_json(str(body)), again=state == "asked",
        answer=None if answer is None else str(answer), sent=int(str(sent)),
    )  # fmt: skip


def answered(connection: apsw.Connection, place: str, number: int, answer: str) -> None:
    """Keep what is to be sent."""
    with transaction(connection):
        connection.execute(
            "UPDATE inbox SET state = 'answered', answer = ? WHERE place = ? AND number = ?", (answer, place, number)
        )


def sent(connection: apsw.Connection, place: str, number: int, pieces: int) -> None:
    """So many pieces of it are out."""
    with transaction(connection):
        connection.execute("UPDATE inbox SET sent = ? WHERE place = ? AND number = ?", (pieces, place, number))


def finish(connection: apsw.Connection, account: str, place: str, number: int, **changes: Any) -> None:
    """A message is behind us; what was said stays only in its session."""
    with transaction(connection):
        connection.execute(
            "UPDATE inbox SET state = 'done', body = '', answer = NULL WHERE place = ? AND number = ?", (place, number)
        )
        _note(connection, account, changes)


def _is_known(connection: apsw.Connection, place: str, number: int) -> bool:
    row = connection.execute("SELECT 1 FROM inbox WHERE place = ? AND number = ?", (place, number)).fetchone()
    return row is not None


def _count(connection: apsw.Connection, place: str, chat: str) -> int:
    found = connection.execute(
        "SELECT count(*) FROM inbox WHERE place = ? AND chat = ? AND state != 'done'", (place, chat)
    ).fetchall()
    return int(str(found[0][0]))


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
