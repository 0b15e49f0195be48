"""The packages that a tenant chooses for its sandbox, of those that its operator allows and the source has."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from carrel.declare.allowlists import PackageAllowlist
from carrel.declare.problems import nearest
from carrel.errors import CarrelError, InvalidRequest
from carrel.packages.protocol import About, EnvironmentState
from carrel.reconcile.own_settings import OwnSettings
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire import rpc
from carrel.wire.control import Actor

LOG_BYTES = 64 << 10
WAIT_SECONDS = 20.0


class States(Protocol):
    """Environments by what is in them."""

    def states(self) -> Sequence[EnvironmentState]:
        """Every set that was asked for, and where it stands."""
        ...


class Known(Protocol):
    """What packages there are."""

    async def names(self, *, wait: float) -> Mapping[str, About]:
        """All of them; raises CarrelError where that is not known within ``wait`` seconds."""
        ...


class PackageChoice:
    """What a tenant has, what it may have, and its changes."""

    def __init__(self, *, settings: OwnSettings, environments: States, known: Known) -> None:
        self._settings = settings
        self._environments = environments
        self._known = known
        self._matched: tuple[tuple[str, ...], Mapping[str, About], frozenset[str]] | None = None

    def list(self, tenant: Tenant) -> rpc.PackageSet:
        """What is in the tenant's sandbox beside the base set, and where its environment stands."""
        packages = tuple(tenant.config.packages)
        wanted = frozenset(packages)
        state = next((one for one in self._environments.states() if frozenset(one.packages) == wanted), None)
        if state is None:
            return rpc.PackageSet(packages=packages, state="unknown")
        return rpc.PackageSet(
            packages=packages, state=state.state, reason=state.reason, seconds=state.seconds, log=state.log[-LOG_BYTES:]
        )

    async def search(
        self, snapshot: Snapshot, tenant: Tenant, query: str, *, after: str, limit: int
    ) -> rpc.PackageNames:
        """Names that may be chosen and that have ``query`` in them, in order, after the name ``after``."""
        allowed = snapshot.allowlists.packages
        known, why = await self._what_there_is(allowed)
        names = sorted(await self._offered(allowed, known))
        found = [name for name in names if query.lower() in name.lower()]
        page = [name for name in found if name > after][: limit + 1]
        chosen = frozenset(tenant.config.packages)
        close = nearest(query, names) if not found and query else None
        told = [(name, (known or {}).get(name, About())) for name in page[:limit]]
        return rpc.PackageNames(
            packages=tuple(
                rpc.PackageName(
                    name=name, chosen=name in chosen, version=about.version, description=about.description
                )
                for name, about in told
            ),
            total=len(found), next=page[limit - 1] if len(page) > limit else None, nearest=close,
            note="" if why is None else why.message,
        )  # fmt: skip

    async def add(self, snapshot: Snapshot, tenant: Tenant, names: Iterable[str], *, by: Actor) -> rpc.PackageSet:
        """Choose more; the environment with them is built, and what runs keeps the old one until then."""
        wanted = list(dict.fromkeys(names))
        allowed = snapshot.allowlists.packages
        known, why = await self._what_there_is(allowed)
        by_name = allowed.all_names()
        for name in wanted:
            if not allowed.allows(name) or (known is not None and name not in known):
                close = nearest(name, sorted(await self._offered(allowed, known)))
                hint = f"; did you mean {close}?" if close else ": packages.search tells what there is."
                what = "There is no package" if allowed.allows(name) else "The operator does not allow a package"
                raise InvalidRequest(f"{what} {name[:80]!r}{hint}", param="packages")
            if why is not None and name not in by_name:
                raise why
        packages = [*tenant.config.packages, *(name for name in wanted if name not in tenant.config.packages)]
        return await self._chosen(tenant, packages, "packages.add", by)

    async def remove(self, tenant: Tenant, names: Iterable[str], *, by: Actor) -> rpc.PackageSet:
        """Choose fewer."""
        gone = list(dict.fromkeys(names))
        for name in gone:
            if name not in tenant.config.packages:
                close = nearest(name, tenant.config.packages)
                hint = f"; did you mean {close}?" if close else "."
                raise InvalidRequest(f"The package {name[:80]!r} is not in the sandbox{hint}", param="packages")
        packages = [name for name in tenant.config.packages if name not in gone]
        return await self._chosen(tenant, packages, "packages.remove", by)

    async def _chosen(self, tenant: Tenant, packages: Sequence[str], action: str, by: Actor) -> rpc.PackageSet:
        if list(packages) == list(tenant.config.packages):
            return self.list(tenant)
        changed = await self._settings.change(tenant.id, {("packages",): list(packages)}, action=action, by=by)
        return self.list(changed)

    async def _what_there_is(self, allowed: PackageAllowlist) -> tuple[Mapping[str, About] | None, CarrelError | None]:
        """What the source has, or why that is not known. Only patterns are worth waiting for."""
        try:
            return await self._known.names(wait=WAIT_SECONDS if allowed.patterns else 0.0), None
        except CarrelError as error:
            return None, error

    async def _offered(self, allowed: PackageAllowlist, known: Mapping[str, About] | None) -> frozenset[str]:
        """What may be chosen: where it is not known what there is, what is allowed by its name."""
        if known is None:
            return allowed.all_names()
        before = self._matched
        if before is None or before[0] != allowed.patterns or before[1] is not known:
            matched = await asyncio.to_thread(lambda: frozenset(filter(allowed.matches, known)))
            self._matched = before = allowed.patterns, known, matched
        return before[2] | allowed.all_names().intersection(known)
