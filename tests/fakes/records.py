"""A record of the gateway's changes, over days, and what is held of it by itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from carrel.audit.chain import Finding
from carrel.audit.keys import PUBLIC, trusted_keys
from carrel.audit.log import MARK, Audit
from carrel.audit.verify import verify_directory
from carrel.clock import Clock
from carrel.errors import CarrelError
from tests.fakes.clock import FakeClock


class Noting:
    """An audit log that has `record` alone: the line of a change comes when the change is over, as in the real one."""

    async def record(
        self, *, actor: str, action: str, target: str, request_id: str, outcome: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> None:  # fmt: skip
        """What a fake keeps of a line."""
        raise NotImplementedError

    def require_room(self) -> None:
        """Raises StorageFull where no change may begin."""

    @asynccontextmanager
    async def change(
        self, *, actor: str, action: str, target: str, request_id: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> AsyncIterator[None]:  # fmt: skip
        """See `Audit.change`."""
        self.require_room()
        outcome = "unknown"
        try:
            yield
            outcome = "ok"
        except CarrelError as error:
            outcome = f"failed: {error.code}"
            raise
        finally:
            await self.record(
                actor=actor, action=action, target=target, request_id=request_id, outcome=outcome, tenant=tenant,
                before=before, after=after,
            )  # fmt: skip


async def opened(path: Path, clock: Clock | None = None, mark: Path | None = None) -> Audit:
    """A record in the state directory ``path``. Its first line says that a key was made."""
    audit = Audit(state_dir=path, clock=clock or FakeClock(), mark=mark)
    await audit.start()
    return audit


async def add(audit: Audit, target: str, tenant: str | None = None, **more: str) -> None:
    """Add a line."""
    told = {"actor": "ak_ops", "action": "tenants.suspend", "request_id": "req_1", "outcome": "ok", **more}
    await audit.record(target=target, tenant=tenant, **told)


async def three_days(path: Path) -> Audit:
    """A record of four lines a day, the first day's first of which is that of the key."""
    clock = FakeClock(datetime(2026, 3, 1, 12, 0, tzinfo=UTC))
    audit = await opened(path, clock)
    for number in range(3, 15):
        await add(audit, f"t{number}", tenant="acme" if number % 2 else "bravo")
        if number % 4 == 1:
            clock.advance(86_400)
    return audit


def held(state: Path, *, mark: bool = True) -> list[Finding]:
    """What is wrong with the record in ``state``, as `carrel audit verify` sees it there."""
    trusted = trusted_keys([state / PUBLIC])
    return verify_directory(state / "audit", trusted, [state / MARK] if mark else [])
