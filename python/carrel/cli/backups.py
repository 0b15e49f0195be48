"""`carrel tenants backup`, `backups` and `restore`, and `carrel backup verify` and `collect`."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import Client, ask, request, understand, whole
from carrel.cli.failures import DONE, FAILED, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.orders import order, tenant_path
from carrel.cli.progress import At, looking
from carrel.cli.tenants import TenantArgument
from carrel.declare.backup import KeepBackups
from carrel.errors import CarrelError
from carrel.wire import backups as wire

if TYPE_CHECKING:
    from pydantic import BaseModel

LONGEST_SECONDS: Final = 24 * 3600.0
STOP_SECONDS: Final = 10.0
Place = Annotated[
    str | None,
    Parameter(name="--from", help="Where the backups are, `s3://bucket/prefix` or `file:///directory`; as declared."),
]
KeepOption = Annotated[
    str | None,
    Parameter(
        help="Which backups stay there, as `last=3,daily=7,weekly=4,monthly=12`: the newest so many, and the newest "
        "of each of so many days, weeks and months. By default as declared; what a tenant's own file says goes first."
    ),
]
BackupOption = Annotated[str | None, Parameter(name="--backup", help="Which, by its id; the newest by default.")]


def backup(
    tenant: TenantArgument,
    /,
    *,
    to: Annotated[
        str | None, Parameter(help="Where to, `s3://bucket/prefix` or `file:///directory`; by default as declared.")
    ] = None,
    keep: KeepOption = None,
    target: Target = HERE,
) -> int:
    """Back a tenant up now, encrypted. What is there already is not sent again, also where the last try broke off."""
    wanted = order(wire.BackupOrder, {"to": to, "keep": counts(keep)})
    document = watched(target, tenant, "backups", wanted)
    made = understand(wire.BackupView, document)
    if target.json:
        screen.show_json(document)
        return FAILED if made.damaged else DONE
    screen.say(made.id)
    left = f", {screen.many(made.left_out, 'name')} left out" if made.left_out else ""
    screen.note(f"{screen.many(made.files, 'file')}, {size(made.bytes)}; {size(made.sent)} sent{left}.")
    if made.damaged:
        screen.complain(damage(made))
        return FAILED
    return DONE


def damage(made: wire.BackupView) -> str:
    """What to say of a backup of a tenant whose files are damaged."""
    names = ", ".join(map(screen.one_line, made.damaged))
    return f"The backup {made.id} is made, and these files of {made.tenant} are damaged: {names}."


def backups(tenant: TenantArgument, /, *, place: Place = None, target: Target = HERE) -> int:
    """List a tenant's backups, newest first."""
    query = {"place": place} if place is not None else None
    document = whole(target, tenant_path(tenant, "backups"), "backups", query)
    if target.json:
        screen.show_json(document)
        return DONE
    found = understand(wire.BackupList, document)
    if not found.backups:
        screen.note(f"There is no backup of {tenant} there.")
    else:
        rows = [(one.id, screen.moment(one.at), one.host, str(one.files), size(one.bytes), size(one.sent))
                for one in found.backups]  # fmt: skip
        screen.table(("BACKUP", "MADE", "HOST", "FILES", "SIZE", "SENT"), rows)
    for one in found.backups:
        if one.damaged:
            screen.complain(damage(one))
        if one.lost:
            screen.complain(
                f"The store lost content of the backup {one.id}: {screen.names(one.lost)}. All else of it comes back "
                f"with `carrel tenants restore {tenant} --backup {one.id} --skip-damaged`."
            )
    if found.failed is not None:
        screen.note(f"The last try failed: {screen.one_line(found.failed)}")
    if found.verified is not None:
        screen.note(f"The newest one was read back whole at {screen.moment(found.verified)}.")
    return DONE


def restore(
    tenant: TenantArgument,
    /,
    *,
    place: Place = None,
    backup_id: BackupOption = None,
    source: Annotated[
        str | None, Parameter(name="--tenant", help="Whose backup; by default the same tenant's.")
    ] = None,
    session: Annotated[str | None, Parameter(help="Only this session.")] = None,
    as_session: Annotated[str | None, Parameter(help="Bring the session back under this id.")] = None,
    replace: Annotated[bool, Parameter(negative=(), show_default=False, help="Replace a session of that id.")] = False,
    dry_run: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Only say what would be done; nothing is fetched.")
    ] = False,
    skip_damaged: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Leave out files that are not whole in the store.")
    ] = False,
    confirm: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Let go what was there before the last restore.")
    ] = False,
    undo: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Bring back what was there before the last restore.")
    ] = False,
    target: Target = HERE,
) -> int:
    """Bring a tenant, or one of its sessions, back from a backup. What was there is kept until `--confirm`."""
    given = {"place": place, "backup": backup_id, "source": source, "session": session, "as_session": as_session}
    said = {key: value for key, value in given.items() if value is not None}
    if confirm or undo:
        if said or dry_run or replace or skip_damaged or (confirm and undo):
            raise WrongUsage("--confirm and --undo decide on the last restore, and go with nothing else.")
        return _decide(tenant, "confirm" if confirm else "undo", target)
    if (as_session is not None or replace) and session is None:
        raise WrongUsage("--as-session and --replace go with --session.")
    if skip_damaged and session is not None:
        raise WrongUsage("--skip-damaged goes with a whole tenant: a session that is not whole is none.")
    wanted = order(wire.RestoreOrder, {**said, "replace": replace, "dry_run": dry_run, "skip_damaged": skip_damaged})
    document = watched(target, tenant, "restore", wanted)
    if target.json:
        screen.show_json(document)
    else:
        _show_restored(understand(wire.RestoreView, document), session, as_session or session)
    return DONE


def _show_restored(done: wire.RestoreView, session: str | None, as_session: str | None) -> None:
    whole = f"{screen.many(done.files, 'file')}, {size(done.bytes)}, {screen.many(done.sessions, 'session')}"
    if session is not None:
        renamed = f" as {as_session}" if as_session != session else ""
        whole = f"the session {session}{renamed}, {size(done.bytes)}"
    made = f"backup {done.backup} of {done.source}, made {screen.moment(done.at)}"
    screen.say(f"{'Would bring' if done.dry_run else 'Brought'} back {whole}: {made}.")
    if done.left_out:
        screen.note(f"Not in the backup to begin with: {screen.many(done.left_out, 'name')}.")
    if done.secrets_lost:
        names = ", ".join(map(screen.one_line, done.secrets_lost))
        screen.note(f"Not without the master key that sealed them: {names}. Set them anew with `carrel secrets set`.")
    if done.tokens_left_out:
        screen.note(f"Tokens stay with {done.source}: issue new ones with `carrel tenants token issue {done.tenant}`.")
    for what, files in (
        ("Damaged already when it was backed up, an older backup may have it whole", done.damaged),
        ("Damaged, and kept as it was beside what has taken its place", done.put_by),
        ("Not whole in the store, and left out", done.lost),
    ):
        if files:
            screen.complain(f"{what}: {screen.names(files)}.")
    if done.snapshots:
        screen.note(f"In no backup, and kept as here: {screen.many(done.snapshots, 'snapshot')} of workspaces.")
    if done.kept_before:
        screen.note(
            f"What was there is kept: `carrel tenants restore {done.tenant} --confirm` lets it go, `--undo` brings it "
            "back."
        )


def _decide(tenant: str, decision: str, target: Target) -> int:
    wanted = order(wire.RestoreDecision, {"decision": decision})
    request(target, "POST", tenant_path(tenant, "restore", "decision"), wanted, patience=LONGEST_SECONDS)
    if target.json:
        screen.show_json({"tenant": tenant, "decision": decision})
    else:
        screen.note("What was there before is gone." if decision == "confirm" else "All is as it was before.")
    return DONE


def verify(
    tenant: TenantArgument, /, *, place: Place = None, backup_id: BackupOption = None, target: Target = HERE
) -> int:
    """Read a backup back, all of it: every piece is opened and every file's hash compared."""
    given = {"place": place, "backup": backup_id}
    wanted = order(wire.VerifyOrder, {key: value for key, value in given.items() if value is not None})
    document = watched(target, tenant, "backups/verify", wanted)
    found = understand(wire.Verified, document)
    if target.json:
        screen.show_json(document)
    elif found.ok:
        screen.say("The backup is whole.")
    for problem in () if target.json else found.problems:
        screen.complain(problem)
    return DONE if found.ok else FAILED


def collect(tenant: TenantArgument, /, *, place: Place = None, keep: KeepOption = None, target: Target = HERE) -> int:
    """Remove backups that need not stay, and pieces that nothing refers to any more."""
    wanted = order(wire.CollectOrder, {"place": place, "keep": counts(keep)})
    document = watched(target, tenant, "backups/collect", wanted)
    if target.json:
        screen.show_json(document)
    else:
        done = understand(wire.CollectedView, document)
        gone = f"{screen.many(len(done.backups), 'backup')} and {screen.many(done.pieces, 'piece')}"
        screen.say(f"{gone} removed, {size(done.bytes)}.")
        if done.uploads:
            screen.note(f"{screen.many(done.uploads, 'export')} that broke off: what it had sent is gone.")
    return DONE


def counts(text: str | None) -> dict[str, int] | None:
    """What `--keep` names; raises WrongUsage."""
    if text is None:
        return None
    found: dict[str, int] = {}
    for word in text.split(","):
        name, _, count = word.strip().partition("=")
        if name not in KeepBackups.model_fields or name in found or not count.isdecimal():
            raise WrongUsage(f"--keep takes `last=3,daily=7,weekly=4,monthly=12`, or some of these; not {word!r}.")
        found[name] = int(count)
    return found


def watched(target: Target, tenant: str, what: str, wanted: "BaseModel") -> Any:
    """The answer to an order that may take long, with how far it is shown meanwhile."""
    path = tenant_path(tenant, *what.split("/"))
    watch = tenant_path(tenant, "backups", "running")

    async def work() -> Any:
        async with Client(target) as client, looking(client, watch, _at, target, unit="bytes"):
            try:
                return await client.send("POST", path, wanted, patience=LONGEST_SECONDS)
            except asyncio.CancelledError:
                await _stop(client, watch)
                raise

    return ask(work())


async def _stop(client: Client, path: str) -> None:
    """What an interrupt asks for: without it the gateway goes on to the end, as where a connection is lost."""
    try:
        await client.send("DELETE", path, patience=STOP_SECONDS)
    except CarrelError as error:
        screen.complain(f"It was not stopped, and the gateway may go on with it: {screen.one_line(error.message)}")
    else:
        screen.complain(
            "It is stopped. What a backup has sent is kept: the next one goes on from there. Of an export nothing is."
        )


def _at(document: Any) -> At | None:
    view = understand(wire.JobView, document)
    return At(view.phase, view.done, view.total, view.model_dump(mode="json")) if view.running else None


def size(count: int) -> str:
    """``count`` bytes, for people."""
    left, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if left < 1024:
            break
        left, unit = left / 1024, larger
    return f"{left:.0f} {unit}" if unit == "B" else f"{left:.1f} {unit}"
