"""`carrel tenants`: who is there, and who is to be."""

from typing import Annotated

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import request, understand, whole
from carrel.cli.failures import DONE, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.orders import NONE, order, size, tenant_path
from carrel.wire import control

TenantArgument = Annotated[str, Parameter(name="ID", help="The tenant.")]


def create(
    tenant: Annotated[str, Parameter(name="ID", help="1 to 32 of a-z, 0-9, `_` and `-`.")],
    /,
    *,
    display_name: Annotated[str | None, Parameter(help="What people call it.")] = None,
    plan: Annotated[str | None, Parameter(help="One of the plans in _plans.yaml.")] = None,
    packages: Annotated[
        list[str] | None,
        Parameter(name="--package", negative=(), help="A package for its tools, of those allowed; said once for each."),
    ] = None,
    token: Annotated[bool, Parameter(help="Issue a first token; it is shown this once.")] = True,
    target: Target = HERE,
) -> int:
    """Declare a tenant: its YAML is written into tenants.d, and committed where that is in git."""
    given = {"id": tenant, "display_name": display_name, "plan": plan, "packages": packages, "issue_token": token}
    wanted = order(control.TenantCreate, {key: value for key, value in given.items() if value is not None})
    document = request(target, "POST", "/v1/tenants", wanted)
    if target.json:
        screen.show_json(document)
        return DONE
    made = understand(control.TenantCreated, document)
    screen.note(f"{made.tenant.id} is declared{f' in {made.tenant.file}' if made.tenant.file else ''}{_commit(made)}.")
    if made.token is not None:
        screen.note("Its token, shown this once:")
        screen.say(made.token)
    return DONE


def _commit(made: control.TenantCreated | control.TenantRemoved) -> str:
    return f", commit {made.commit[:12]}" if made.commit else ""


def list_(*, target: Target = HERE) -> int:
    """List the tenants."""
    document = whole(target, "/v1/tenants", "tenants")
    if target.json:
        screen.show_json(document)
        return DONE
    tenants = understand(control.TenantList, document).tenants
    rows = [(t.id, t.state, t.plan, t.display_name, t.problem) for t in tenants]
    screen.table(("TENANT", "STATE", "PLAN", "NAME", "PROBLEM"), rows)
    return DONE


def show(tenant: TenantArgument, /, *, target: Target = HERE) -> int:
    """Show one tenant."""
    return _show(target, request(target, "GET", tenant_path(tenant)))


def suspend(tenant: TenantArgument, /, *, target: Target = HERE) -> int:
    """Stop everything that runs for a tenant, and let nothing new begin. Its data stays."""
    return _show(target, request(target, "POST", tenant_path(tenant, "suspend")))


def resume(tenant: TenantArgument, /, *, target: Target = HERE) -> int:
    """Let a suspended tenant work again."""
    return _show(target, request(target, "POST", tenant_path(tenant, "resume")))


def resize(
    tenant: TenantArgument,
    /,
    *,
    plan: Annotated[str | None, Parameter(help=f"One of the plans in _plans.yaml; `{NONE}` for no plan.")] = None,
    memory: Annotated[str | None, Parameter(help="Memory of its sandbox: bytes, or with a unit as `2GiB`.")] = None,
    cpus: Annotated[str | None, Parameter(help="Processors of its sandbox at a time, as `1.5`.")] = None,
    cpu_seconds: Annotated[str | None, Parameter(help="Processor time of one run.")] = None,
    pids: Annotated[str | None, Parameter(help="Processes and threads of its sandbox.")] = None,
    concurrent: Annotated[str | None, Parameter(help="Runs at a time.")] = None,
    target: Target = HERE,
) -> int:
    """Put a tenant on another plan, or change what its sandbox has: in force with the next request.

    `none` takes away what the tenant's own file says, so that what its plan says holds again.
    """
    given = {
        "plan": plan, "memory_bytes": None if memory is None else size(memory), "cpus": cpus,
        "cpu_seconds": cpu_seconds, "pids": pids, "concurrent": concurrent,
    }  # fmt: skip
    changes = {name: None if text == NONE else text for name, text in given.items() if text is not None}
    if not changes:
        raise WrongUsage("There is nothing to change: name a plan, as --plan pro, or a limit, as --memory 2GiB.")
    return _show(target, request(target, "POST", tenant_path(tenant, "resize"), order(control.TenantResize, changes)))


def _show(target: Target, document: object) -> int:
    if target.json:
        screen.show_json(document)
        return DONE
    show_tenant(understand(control.TenantView, document))
    return DONE


def show_tenant(tenant: control.TenantView) -> None:
    """One tenant, a line for each thing."""
    lines = {
        "tenant": tenant.id,
        "name": tenant.display_name,
        "state": tenant.state,
        "problem": tenant.problem,
        "plan": tenant.plan,
        "agents": ", ".join(tenant.agents),
        "file": tenant.file,
        "revision": tenant.revision,
    }
    screen.facts(lines)


def remove(
    tenant: TenantArgument,
    /,
    *,
    purge: Annotated[
        bool,
        Parameter(
            negative=(), show_default=False, help="Delete its data now, after a final backup, and wait for that."
        ),
    ] = False,
    target: Target = HERE,
) -> int:
    """Take a tenant's declaration away: nothing runs for it any more. What it has is kept for a while, then deleted.

    How long is `reconcile.delete_after_seconds` of _gateway.yaml. A file that is put back before brings all of it back.
    """
    document = request(target, "DELETE", tenant_path(tenant), query={"purge": "true"} if purge else None)
    if target.json:
        screen.show_json(document)
        return DONE
    gone = understand(control.TenantRemoved, document)
    data = "its data is kept" if gone.data_kept else "its data is gone"
    screen.say(f"{gone.id} is no longer declared{_commit(gone)}; {data}.")
    return DONE
