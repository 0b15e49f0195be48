"""`packages.*`: what a tenant chooses for its sandbox, of what its operator allows."""

from carrel.errors import NotFound
from carrel.http.rpc.registry import Context, Registry
from carrel.http.services import Packages
from carrel.wire import rpc
from carrel.wire.control import Actor


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("packages.list")(list_)
    registry.method("packages.search")(search)
    registry.method("packages.add", changes=True)(add)
    registry.method("packages.remove", changes=True)(remove)


async def list_(context: Context, params: rpc.NoParams) -> rpc.PackageSet:
    """The packages in the tenant's sandbox, and where its environment stands."""
    return _packages(context).list(context.tenant)


async def search(context: Context, params: rpc.PackageSearch) -> rpc.PackageNames:
    """Packages that the operator allows, by a part of their names."""
    return await _packages(context).search(
        context.snapshot,
        context.tenant,
        params.query,
        after=params.cursor if params.cursor is not None else params.after,
        limit=params.limit,
    )


async def add(context: Context, params: rpc.PackageChange) -> rpc.PackageSet:
    """Choose more packages; the new environment is in use once it is built."""
    by = Actor(context.actor, context.request_id)
    return await _packages(context).add(context.snapshot, context.tenant, params.packages, by=by)


async def remove(context: Context, params: rpc.PackageChange) -> rpc.PackageSet:
    """Choose fewer packages."""
    return await _packages(context).remove(context.tenant, params.packages, by=Actor(context.actor, context.request_id))


def _packages(context: Context) -> Packages:
    if context.services.packages is None:
        raise NotFound("No packages can be chosen here.")
    return context.services.packages
