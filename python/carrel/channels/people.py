"""Who may write to a channel beside those that are declared: people who were approved by the code that they got.

A code is no secret: it names a request to whoever decides it, and only a person of the tenant's, or the operator, can.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import apsw
from pydantic import BaseModel, ConfigDict

from carrel.channels.inbound import Chat, Inbound
from carrel.errors import NotFound
from carrel.store.sqlite import transaction

ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Without what is mistaken for something else."""
CODE_LENGTH: Final = 8
CODE_LIFE: Final = timedelta(hours=1)
MOST_PENDING: Final = 3
"""Requests of one channel that may wait; who comes then gets no answer."""


class Asking(BaseModel):
    """Somebody who asks to be let in."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    code: str
    channel: str
    account: str
    sender: str
    name: str
    chat: Chat
    asked: datetime

    @property
    def expires(self) -> datetime:
        """When the code is over."""
        return self.asked + CODE_LIFE

    @property
    def told(self) -> str:
        """What they are told."""
        return (
            f"I answer only people who were let in. Your code is {self.code}: give it to whoever runs me, within "
            f"an hour. (Your number here is {self.sender}.)"
        )


class Person(BaseModel):
    """Somebody who was let in."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    sender: str
    name: str
    approved: datetime
    by: str


def upgrade(connection: apsw.Connection) -> None:
    """The schema."""
    for table in ("pending", "paired"):
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {table} (channel TEXT, sender TEXT, body TEXT NOT NULL, "
            "PRIMARY KEY (channel, sender)) WITHOUT ROWID"
        )


def is_paired(connection: apsw.Connection, channel: str, sender: str) -> bool:
    """Whether somebody was let in."""
    row = connection.execute("SELECT 1 FROM paired WHERE channel = ? AND sender = ?", (channel, sender)).fetchone()
    return row is not None


def ask(
    connection: apsw.Connection, channel: str, account: str, message: Inbound, *, now: datetime
) -> Asking | None:  # fmt: skip
    """Keep a request of the message's sender; None where there is one already, or too many. Within a transaction."""
    waiting = _pending(connection, channel, now)
    if len(waiting) >= MOST_PENDING or any(one.sender == message.sender for one in waiting):
        return None
    code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
    made = Asking(
        code=code, channel=channel, account=account, sender=message.sender, name=message.name, chat=message.chat,
        asked=now,
    )  # fmt: skip
    connection.execute(
        "INSERT INTO pending VALUES (?, ?, ?) ON CONFLICT (channel, sender) DO UPDATE SET body = excluded.body",
        (channel, message.sender, made.model_dump_json()),
    )
    return made


def pending(connection: apsw.Connection, channel: str, *, now: datetime) -> Sequence[Asking]:
    """Requests that wait, oldest first."""
    return sorted(_pending(connection, channel, now), key=lambda one: (one.asked, one.code))


def paired(connection: apsw.Connection, channel: str) -> Sequence[Person]:
    """Who was let in."""
    rows = connection.execute("SELECT body FROM paired WHERE channel = ? ORDER BY sender", (channel,)).fetchall()
    return [Person.model_validate_json(str(row[0])) for row in rows]


def asking(connection: apsw.Connection, channel: str, code: str, *, now: datetime) -> Asking:
    """The request that has ``code``; raises NotFound."""
    said = code.strip().upper().replace("-", "")
    found = next((one for one in _pending(connection, channel, now) if one.code == said), None)
    if found is None:
        raise NotFound("That code is not known, was decided, or is over: who has it can write again for a new one.")
    return found


def decide(connection: apsw.Connection, channel: str, code: str, *, approve: bool, by: str, now: datetime) -> Asking:
    """Let the one who has ``code`` in, or do not; raises NotFound."""
    decided = asking(connection, channel, code, now=now)
    with transaction(connection):
        connection.execute("DELETE FROM pending WHERE channel = ? AND sender = ?", (channel, decided.sender))
        if approve:
            person = Person(sender=decided.sender, name=decided.name, approved=now, by=by)
            connection.execute(
                "INSERT INTO paired VALUES (?, ?, ?) ON CONFLICT (channel, sender) DO UPDATE SET body = excluded.body",
                (channel, decided.sender, person.model_dump_json()),
            )
    return decided


def remove(connection: apsw.Connection, channel: str, sender: str) -> None:
    """Let somebody in no more; raises NotFound."""
    with transaction(connection):
        connection.execute("DELETE FROM paired WHERE channel = ? AND sender = ?", (channel, sender))
        gone = connection.changes()
    if not gone:
        raise NotFound("There is no such person; `channels.pair` without a code lists who there is.")


def forget(connection: apsw.Connection, channel: str) -> None:
    """Forget everybody of a channel."""
    with transaction(connection):
        connection.execute("DELETE FROM pending WHERE channel = ?", (channel,))
        connection.execute("DELETE FROM paired WHERE channel = ?", (channel,))


def _pending(connection: apsw.Connection, channel: str, now: datetime) -> list[Asking]:
    rows = connection.execute("SELECT body FROM pending WHERE channel = ?", (channel,)).fetchall()
    found = [Asking.model_validate_json(str(row[0])) for row in rows]
    return [one for one in found if one.expires > now.astimezone(UTC)]
