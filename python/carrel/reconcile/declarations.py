"""Writes one tenant's file in tenants.d as an operator would: judged first, swapped in whole, committed alone."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from carrel.declare.directory import OPERATOR_FILES
from carrel.declare.load import load_files
from carrel.errors import Conflict, InvalidRequest, NotFound
from carrel.ids import TenantId
from carrel.vcs.bare import Moved
from carrel.vcs.edits import edited
from carrel.vcs.git import Author
from carrel.vcs.plain import Change, PlainDirectory
from carrel.wire.control import Actor

HEADER: Final = "# yaml-language-server: $schema=../docs/reference/schema/tenant.json\n"
_TRIES: Final = 5


class Settles(Protocol):
    """Brings what was just written into force."""

    async def settled(self) -> object:
        """Return once it is."""
        ...

    async def order(self, tenant: TenantId, *, removal: bool) -> None:
        """A person removes this very tenant, or after all does not."""
        ...


class Place(Protocol):
    """Where declarations are kept: a directory, or a branch."""

    async def read(self, name: str) -> bytes | None:
        """A file's bytes, None where it is missing."""
        ...

    async def write(self, changes: Mapping[str, Change], message: str, author: Author) -> str | None:
        """All of ``changes`` or none, in one commit where there is git; raises Moved where a file is another now."""
        ...


class Declarations:
    """The files of ``tenants_dir``, or of ``place``. One change at a time; what cannot be finished is taken back."""

    def __init__(self, *, tenants_dir: Path, reconciler: Settles, place: Place | None = None) -> None:
        self._dir = tenants_dir
        self._place: Place = place if place is not None else PlainDirectory(tenants_dir)
        self._reconciler = reconciler
        self._lock = asyncio.Lock()

    def file(self, tenant: TenantId) -> Path:
        """Where the tenant is declared."""
        return self._dir / f"{tenant}.yaml"

    async def create(self, tenant: TenantId, values: Mapping[str, object], *, by: Actor) -> str | None:
        """Declare a new tenant; the commit, None where there is no git. Raises Conflict where it is declared."""
        async with self._lock:
            if await self._place.read(f"{tenant}.yaml") is not None:
                raise Conflict(f"{tenant}.yaml is there already: edit it, or choose another id.")
            given: dict[tuple[str, ...], object] = {(key,): value for key, value in values.items() if value is not None}
            text = await edited(HEADER, given)
            return await self._change(tenant, None, text, f"Add the tenant {tenant}", by)

    async def update(
        self, tenant: TenantId, changes: Mapping[tuple[str, ...], object], *, what: str, by: Actor
    ) -> str | None:
        """Change keys of a tenant's file in place, comments and order kept. ``what`` begins the commit's message.

        Where somebody else changes the file meanwhile, the keys are changed in what they left.
        """
        async with self._lock:
            for attempt in range(_TRIES):
                before = await self._read(tenant)
                text = await edited(before.decode(), changes)
                if text.encode() == before:
                    await self._reconciler.settled()
                    return None
                try:
                    return await self._change(tenant, before, text, f"{what} {tenant}", by)
                except Moved:
                    if attempt == _TRIES - 1:
                        raise
            return None

    async def remove(self, tenant: TenantId, *, by: Actor) -> str | None:
        """Take a tenant's file away."""
        async with self._lock:
            before = await self._read(tenant)
            await self._reconciler.order(tenant, removal=True)
            try:
                return await self._change(tenant, before, None, f"Remove the tenant {tenant}", by)
            except BaseException:
                await self._reconciler.order(tenant, removal=False)
                raise

    async def _change(
        self, tenant: TenantId, before: bytes | None, after: str | None, message: str, by: Actor
    ) -> str | None:
        if after is not None:
            await self._judge(tenant, after)
        change = Change(before, after.encode() if after is not None else None)
        whole = f"{message}\n\nAsked for by {by.name}.\n"
        commit = await self._place.write({f"{tenant}.yaml": change}, whole, Author.of(by.name))
        await self._reconciler.settled()
        return commit

    async def _read(self, tenant: TenantId) -> bytes:
        data = await self._place.read(f"{tenant}.yaml")
        if data is None:
            raise NotFound(f"{tenant}.yaml is not in tenants.d.")
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise Conflict(f"{tenant}.yaml cannot be read: mend it by hand.") from error
        return data

    async def _judge(self, tenant: TenantId, text: str) -> None:
        """Judge the new file beside the operator's files as they are; raises InvalidRequest with each problem."""
        files = {name: await self._place.read(name) for name in OPERATOR_FILES}
        given = {name: data for name, data in files.items() if data is not None}
        tree = await asyncio.to_thread(load_files, {**given, f"{tenant}.yaml": text.encode()})
        if tree.errors:
            raise InvalidRequest(
                "The change was not made: " + " ".join(str(p) for p in tree.errors[:10]),
                details={"problems": [str(p) for p in tree.errors]},
            )
