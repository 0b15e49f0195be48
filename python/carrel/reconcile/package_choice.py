"""The packages that a tenant chooses for its sandbox, of those that its operator allows."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from carrel.declare.problems import nearest
from carrel.errors import InvalidRequest
from carrel.packages.protocol import EnvironmentState
from carrel.reconcile.own_settings import OwnSettings
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire import rpc
from carrel.wire.control import Actor

LOG_BYTES = 16 << 10


class States(Protocol):
    """Environments by what is in them."""

    def states(self) -> Sequence[EnvironmentState]:
        """Every set that was asked for, and where it stands."""
        ...


class PackageChoice:
    """What a tenant has, what it may have, and its changes."""

    def __init__(self, *, settings: OwnSettings, environments: States) -> None:
        self._settings = settings
        self._environments = environments

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

    def search(self, snapshot: Snapshot, tenant: Tenant, query: str, *, after: str, limit: int) -> rpc.PackageNames:
        """Names that the operator allows and that have ``query`` in them, in order, after the name ``after``."""
        names = sorted(snapshot.allowlists.packages.all_names())
        found = [name for name in names if query.lower() in name.lower()]
        page = [name for name in found if name > after][: limit + 1]
        chosen = frozenset(tenant.config.packages)
        close = nearest(query, names) if not found and query else None
        return rpc.PackageNames(
            packages=tuple(rpc.PackageName(name=name, chosen=name in chosen) for name in page[:limit]),
            total=len(found), next=page[limit - 1] if len(page) > limit else None, nearest=close,
        )  # fmt: skip

    async def add(self, snapshot: Snapshot, tenant: Tenant, names: Iterable[str], *, by: Actor) -> rpc.PackageSet:
        """Choose more; the environment with them is built, and what runs keeps the old one until then."""
        wanted = list(dict.fromkeys(names))
        allowed = snapshot.allowlists.packages.all_names()
        for name in wanted:
            if name not in allowed:
                close = nearest(name, sorted(allowed))
                hint = f"; did you mean {close}?" if close else ": packages.search tells what there is."
                raise InvalidRequest(f"The operator does not allow a package {name[:80]!r}{hint}", param="packages")
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
