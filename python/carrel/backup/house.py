"""What backups, restores, exports and imports need of the rest of the gateway."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from carrel.ids import SessionId
from carrel.tenancy.handle import Tenant


class House(Protocol):
    """The rest of the gateway."""

    async def flush(self, tenant: Tenant) -> None:
        """Put on the disk what belongs into the tenant's directory and is not there yet."""
        ...

    def at_rest(self, tenant: Tenant) -> AbstractAsyncContextManager[None]:
        """Nothing runs for the tenant and none of its files is open while the block lasts; then all is read anew.

        Raises Conflict where what runs does not end.
        """
        ...

    async def carry_over(self, tenant: Tenant, fresh: Path, *, own: bool) -> tuple[str, ...]:
        """While it rests: put into ``fresh``, about to be its directory, what never goes back in time.

        ``own`` is False where ``fresh`` was another tenant's. Gives the paths in it of what was damaged, and is kept
        as it was.
        """
        ...

    async def has_session(self, tenant: Tenant, session_id: SessionId) -> bool:
        """Whether there is a session of that id."""
        ...

    async def put_session(self, tenant: Tenant, session_id: SessionId, data: bytes, *, replace: bool) -> None:
        """Take a transcript in as that session; raises Conflict where there is one and it is not to be replaced."""
        ...

    async def commit(self) -> str | None:
        """The commit that tenants.d is at, None where it is in no git work tree."""
        ...
