"""`carrel packages`: what a tenant's sandbox holds, and what it may."""

from typing import Annotated, Any

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import understand
from carrel.cli.failures import DONE
from carrel.cli.options import HERE, Target
from carrel.cli.rpc import called
from carrel.wire import rpc

TenantOption = Annotated[str, Parameter(name="--tenant", help="The tenant.")]
Names = Annotated[str, Parameter(name="PACKAGE", help="A package's name, exactly.")]


def list_(*, tenant: TenantOption, target: Target = HERE) -> int:
    """List the packages in a tenant's sandbox, and where its environment stands."""
    return _show_set(called(target, tenant, "packages.list", {}), target)


def search(
    query: Annotated[str, Parameter(name="QUERY", help="A part of the name; all of them without one.")] = "",
    /,
    *,
    tenant: TenantOption,
    limit: Annotated[int, Parameter(help="How many to show.")] = 100,
    target: Target = HERE,
) -> int:
    """List packages that a tenant may choose."""
    document = called(target, tenant, "packages.search", {"query": query, "limit": max(1, min(limit, 500))})
    if target.json:
        screen.show_json(document)
        return DONE
    found = understand(rpc.PackageNames, document)
    if not found.packages:
        hint = f"; did you mean {found.nearest}?" if found.nearest else "."
        screen.note(f"No package that is allowed has {query!r} in its name{hint}")
    if found.note:
        screen.note(found.note)
    if not found.packages:
        return DONE
    rows = [
        (one.name, "yes" if one.chosen else None, one.version or None, screen.one_line(one.description)[:60] or None)
        for one in found.packages
    ]
    screen.table(("PACKAGE", "CHOSEN", "VERSION", "DESCRIPTION"), rows)
    if found.total > len(found.packages):
        screen.note(f"{len(found.packages)} of {found.total}; --limit shows more.")
    return DONE


def add(*packages: Names, tenant: TenantOption, target: Target = HERE) -> int:
    """Choose more packages for a tenant; its environment is built with them."""
    return _show_set(called(target, tenant, "packages.add", {"packages": packages}), target)


def remove(*packages: Names, tenant: TenantOption, target: Target = HERE) -> int:
    """Take packages out of a tenant's sandbox."""
    return _show_set(called(target, tenant, "packages.remove", {"packages": packages}), target)


def log(*, tenant: TenantOption, target: Target = HERE) -> int:
    """Show what the last builds of a tenant's environment printed, and how each came out."""
    document = called(target, tenant, "packages.list", {})
    if target.json:
        screen.show_json(document)
        return DONE
    screen.say(understand(rpc.PackageSet, document).log.rstrip("\n") or "Nothing was logged.")
    return DONE


def _show_set(document: Any, target: Target) -> int:
    if target.json:
        screen.show_json(document)
        return DONE
    chosen = understand(rpc.PackageSet, document)
    screen.say(" ".join(chosen.packages) or "No package beside the base set.")
    screen.note(f"The environment is {chosen.state}{f': {chosen.reason}' if chosen.reason else ''}.")
    return DONE
