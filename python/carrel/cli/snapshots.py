"""`carrel tenants snapshot`, `snapshots` and `rollback`: a workspace as it was."""

from typing import Annotated

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import request, understand, whole
from carrel.cli.failures import DONE, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.orders import order, tenant_path
from carrel.cli.tenants import TenantArgument
from carrel.wire import control

LONGEST_SECONDS = 3600.0
SnapshotArgument = Annotated[
    str, Parameter(name="SNAPSHOT", help="Its id, as `carrel tenants snapshots` shows it.")
]  # fmt: skip


def snapshot(
    tenant: TenantArgument,
    /,
    *,
    label: Annotated[str, Parameter(help="What it is for.")] = "",
    session: Annotated[str | None, Parameter(help="Of this session's own workspace.")] = None,
    member: Annotated[str | None, Parameter(help="Of this member's own workspace.")] = None,
    target: Target = HERE,
) -> int:
    """Copy a tenant's workspace as it is now."""
    wanted = order(control.SnapshotOrder, {"label": label, "session": session, "member": member})
    document = request(target, "POST", tenant_path(tenant, "snapshots"), wanted, patience=LONGEST_SECONDS)
    if target.json:
        screen.show_json(document)
        return DONE
    made = understand(control.SnapshotView, document)
    screen.say(made.id)
    left = f", {made.left_out} left out" if made.left_out else ""
    screen.note(f"{made.files} {'entry' if made.files == 1 else 'entries'}, {made.bytes} bytes{left}.")
    return DONE


def snapshots(
    tenant: TenantArgument,
    /,
    *,
    remove: Annotated[str | None, Parameter(name="--remove", help="Forget this one instead, by its id.")] = None,
    target: Target = HERE,
) -> int:
    """List the snapshots of a tenant's workspaces, oldest first."""
    if remove is not None:
        request(target, "DELETE", tenant_path(tenant, "snapshots", remove))
        if target.json:
            screen.show_json({"removed": remove})
        else:
            screen.say(f"{remove} is no more.")
        return DONE
    document = whole(target, tenant_path(tenant, "snapshots"), "snapshots")
    if target.json:
        screen.show_json(document)
        return DONE
    found = understand(control.SnapshotList, document).snapshots
    if not found:
        screen.note(f"There is no snapshot of {tenant}.")
        return DONE
    rows = [
        (one.id, one.workspace, screen.moment(one.made), str(one.files), str(one.bytes), one.why, one.label)
        for one in found
    ]
    screen.table(("SNAPSHOT", "WORKSPACE", "MADE", "ENTRIES", "BYTES", "WHY", "LABEL"), rows)
    return DONE


def rollback(
    tenant: TenantArgument,
    snapshot_id: Annotated[
        str | None, Parameter(name="SNAPSHOT", help="Which; the newest of the tenant's own workspace by default.")
    ] = None,
    /,
    *,
    session: Annotated[str | None, Parameter(help="The newest of this session's own workspace.")] = None,
    member: Annotated[str | None, Parameter(help="The newest of this member's own workspace.")] = None,
    target: Target = HERE,
) -> int:
    """Put a snapshot in its workspace's place; what was there is kept as a snapshot, and a second time undoes it."""
    if sum(one is not None for one in (snapshot_id, session, member)) > 1:
        raise WrongUsage("Name a snapshot, a session or a member: one of them says which workspace it is.")
    if snapshot_id is None:
        listed = understand(control.SnapshotList, whole(target, tenant_path(tenant, "snapshots"), "snapshots"))
        place = f"sandbox.d/session-{session}" if session is not None else "sandbox"
        place = f"sandbox.d/member-{member}" if member is not None else place
        own = [one for one in listed.snapshots if one.workspace == place]
        if not own:
            screen.complain(f"There is no snapshot of {tenant} ({place}).")
            return 1
        snapshot_id = own[-1].id
    path = tenant_path(tenant, "snapshots", snapshot_id, "rollback")
    document = request(target, "POST", path, patience=LONGEST_SECONDS)
    if target.json:
        screen.show_json(document)
    else:
        done = understand(control.RolledBack, document)
        screen.say(f"{done.to.workspace} is as it was in {done.to.id}; what it was before is {done.before.id}.")
    return DONE
