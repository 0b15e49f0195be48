"""Writes one tenant's file in tenants.d as an operator would: judged first, swapped in whole, committed alone."""

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from carrel.declare.load import load_tree
from carrel.errors import CarrelError, Conflict, InvalidRequest, NotFound, StorageFull, Unavailable
from carrel.ids import TenantId
from carrel.vcs.edits import edited
from carrel.vcs.git import Git
from carrel.wire.control import Actor

HEADER: Final = "# yaml-language-server: $schema=../docs/reference/schema/tenant.json\n"
_OPERATORS: Final = ("_gateway.yaml", "_rate-card.yaml", "_plans.yaml", "_allowlists.yaml")
_MAX_BYTES: Final = 256 * 1024


class Settles(Protocol):
    """Brings what was just written into force."""

    async def settled(self) -> object:
        """Return once it is."""
        ...

    async def order(self, tenant: TenantId, *, removal: bool) -> None:
        """A person removes this very tenant, or after all does not."""
        ...


class Declarations:
    """The files of ``tenants_dir``. One change at a time; a change that cannot be finished is taken back."""

    def __init__(self, *, tenants_dir: Path, reconciler: Settles) -> None:
        self._dir = tenants_dir
        self._reconciler = reconciler
        self._lock = asyncio.Lock()

    def file(self, tenant: TenantId) -> Path:
        """Where the tenant is declared."""
        return self._dir / f"{tenant}.yaml"

    async def create(self, tenant: TenantId, values: Mapping[str, object], *, by: Actor) -> str | None:
        """Declare a new tenant; the commit, None where there is no git. Raises Conflict where it is declared."""
        async with self._lock:
            if await asyncio.to_thread(self.file(tenant).exists):
                raise Conflict(f"{tenant}.yaml is there already: edit it, or choose another id.")
            given: dict[tuple[str, ...], object] = {(key,): value for key, value in values.items() if value is not None}
            text = await edited(HEADER, given)
            return await self._change(tenant, None, text, f"Add the tenant {tenant}", by)

    async def update(
        self, tenant: TenantId, changes: Mapping[tuple[str, ...], object], *, what: str, by: Actor
    ) -> str | None:
        """Change keys of a tenant's file in place, comments and order kept. ``what`` begins the commit's message."""
        async with self._lock:
            before = await asyncio.to_thread(self._read, tenant)
            text = await edited(before, changes)
            if text == before:
                await self._reconciler.settled()
                return None
            return await self._change(tenant, before, text, f"{what} {tenant}", by)

    async def remove(self, tenant: TenantId, *, by: Actor) -> str | None:
        """Take a tenant's file away."""
        async with self._lock:
            before = await asyncio.to_thread(self._read, tenant)
            await self._reconciler.order(tenant, removal=True)
            try:
                return await self._change(tenant, before, None, f"Remove the tenant {tenant}", by)
            except BaseException:
                await self._reconciler.order(tenant, removal=False)
                raise

    async def _change(
        self, tenant: TenantId, before: str | None, after: str | None, message: str, by: Actor
    ) -> str | None:
        if after is not None:
            await asyncio.to_thread(self._judge, tenant, after)
        await asyncio.to_thread(self._write, tenant, after)
        try:
            git = await Git.find(self._dir)
            commit = None
            if git is not None:
                commit = await git.commit([self.file(tenant)], f"{message}\n\nAsked for by {by.name}.\n")
        except (CarrelError, asyncio.CancelledError):
            await asyncio.shield(asyncio.to_thread(self._write, tenant, before))
            raise
        await self._reconciler.settled()
        return commit

    def _read(self, tenant: TenantId) -> str:
        try:
            with self.file(tenant).open("rb") as file:
                return file.read(_MAX_BYTES + 1).decode()
        except FileNotFoundError:
            raise NotFound(f"{tenant}.yaml is not in tenants.d.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise Conflict(f"{tenant}.yaml cannot be read: mend it by hand.") from error

    def _judge(self, tenant: TenantId, text: str) -> None:
        """Judge the new file beside the operator's files as they are; raises InvalidRequest with each problem."""
        try:
            with tempfile.TemporaryDirectory(prefix="carrel-judge-") as place:
                for name in _OPERATORS:
                    if (self._dir / name).is_file():
                        shutil.copyfile(self._dir / name, Path(place) / name)
                (Path(place) / f"{tenant}.yaml").write_text(text)
                problems = load_tree(Path(place)).errors
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull("The disk of temporary files is full: the change was not made.") from error
            raise Unavailable(f"The change could not be judged, and was not made: {error.strerror}.") from error
        if problems:
            raise InvalidRequest(
                "The change was not made: " + " ".join(str(p) for p in problems[:10]),
                details={"problems": [str(p) for p in problems]},
            )

    def _write(self, tenant: TenantId, text: str | None) -> None:
        path = self.file(tenant)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            if text is None:
                path.unlink(missing_ok=True)
            else:
                with temporary.open("w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
                temporary.replace(path)
            directory = os.open(self._dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except PermissionError as error:
            raise Conflict(
                f"tenants.d cannot be written by the gateway (uid {os.geteuid()}): let that uid write it, or edit "
                f"{path.name} by hand."
            ) from error
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull("The disk is full: the change was not made.") from error
            raise CarrelError(f"{path.name} cannot be written: {error.strerror}.") from error
