"""What was done under which idempotency key, kept a day: a repeated call is answered and not done again."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

import apsw

from carrel.errors import Conflict, RateLimited
from carrel.store.sqlite import transaction
from carrel.store.tenants import TenantDatabases
from carrel.tenancy.handle import Tenant

KEPT: Final = timedelta(hours=24)
MOST: Final = 10_000


class KeyReused(Conflict):
    """The key was used for another call."""

    code = "idempotency_key_reused"


@dataclass(frozen=True, slots=True)
class Once:
    """How a key stands: ``new``; ``again``, begun by a gateway that died; ``done``, with the answer it had."""

    state: Literal["new", "again", "done"]
    answer: str = ""


class OnceStore:
    """The keys of all tenants."""

    def __init__(self) -> None:
        self._databases = TenantDatabases(directory="usage", name="once.sqlite", schema=upgrade)

    async def begin(self, tenant: Tenant, key: str, digest: str, *, now: datetime) -> Once:
        """Note that the call ``digest`` begins under ``key``; raises KeyReused, RateLimited."""
        return await self._databases.run(tenant, begun(tenant.member or "", key, digest, now))

    async def finish(self, tenant: Tenant, key: str, answer: str) -> None:
        """Keep the answer to the call that began under ``key``."""
        await self._databases.run(tenant, answered(tenant.member or "", key, answer))

    async def forget(self, tenant: Tenant, key: str) -> None:
        """Forget ``key``: the call was refused, and may be tried again."""
        await self._databases.run(tenant, forgotten(tenant.member or "", key))

    async def close(self) -> None:
        """Close the databases."""
        await self._databases.close()


def begun(whose: str, key: str, digest: str, now: datetime) -> Callable[[apsw.Connection], Once]:
    """What notes that a call begins, and says how its key stands."""

    def work(connection: apsw.Connection) -> Once:
        with transaction(connection):
            connection.execute("DELETE FROM once WHERE began < ?", (int((now - KEPT).timestamp()),))
            row = connection.execute("SELECT digest, answer FROM once WHERE member = ? AND key = ?", (whose, key))
            found = row.fetchone()
            if found is not None and found[0] != digest:
                raise KeyReused("That idempotency key was used for another call; take a new one for each call.")
            if found is not None:
                return Once("again") if found[1] is None else Once("done", str(found[1]))
            if int(connection.execute("SELECT count(*) FROM once").fetchall()[0][0] or 0) >= MOST:
                raise RateLimited(f"{MOST} idempotency keys were used within a day.", retry_after=3600.0)
            connection.execute(
                "INSERT INTO once (member, key, digest, began) VALUES (?, ?, ?, ?)",
                (whose, key, digest, int(now.timestamp())),
            )
            return Once("new")

    return work


def answered(whose: str, key: str, answer: str) -> Callable[[apsw.Connection], None]:
    """What keeps an answer."""

    def work(connection: apsw.Connection) -> None:
        with transaction(connection):
            connection.execute("UPDATE once SET answer = ? WHERE member = ? AND key = ?", (answer, whose, key))

    return work


def forgotten(whose: str, key: str) -> Callable[[apsw.Connection], None]:
    """What forgets a key."""

    def work(connection: apsw.Connection) -> None:
        with transaction(connection):
            connection.execute("DELETE FROM once WHERE member = ? AND key = ?", (whose, key))

    return work


def upgrade(connection: apsw.Connection) -> None:
    """Bring the table up to date."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS once (member TEXT NOT NULL, key TEXT NOT NULL, digest TEXT NOT NULL, "
        "began INTEGER NOT NULL, answer TEXT, PRIMARY KEY (member, key)) WITHOUT ROWID"
    )
