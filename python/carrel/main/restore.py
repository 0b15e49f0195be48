"""`carrel restore`: the state directory's lock, the declarations, the keys and the store, and then all tenants."""

import asyncio
import contextlib
import os
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from carrel.audit.log import Audit
from carrel.backup.boot import Brought
from carrel.backup.service import clear_left
from carrel.backup.target import location_of
from carrel.cli import screen
from carrel.cli.failures import DONE, FAILED
from carrel.cli.restore_options import RestoreOptions
from carrel.clock import Clock, SystemClock
from carrel.declare.host import Placement
from carrel.errors import CarrelError, NotFound
from carrel.ids import TenantId, parse_tenant_id
from carrel.main import first_restore
from carrel.main.bringing_back import Backups, Noted, declared_in, noted_in
from carrel.main.gitops import Declared
from carrel.main.launch import reads_of
from carrel.main.privilege import Places, asked_by, drop_root
from carrel.main.statedir import StateDir
from carrel.objects.location import Location
from carrel.secrets import SecretStore
from carrel.tenancy.paths import require_openat2
from carrel.vault.ring import KeyRing
from carrel.vcs.revisions import NOTHING

_WORDS: Final = {"kept": "stays as it is", "none": "begins anew"}


class NobodyHasPushed(CarrelError):
    """Declarations are pushed here, and none were."""


def run_restore(options: RestoreOptions) -> int:
    """Bring all tenants back; 0 where none failed. Where root starts it, it is executed anew as the gateway's uid."""
    uid = asked_by(drop_root(_places(options)), os.environ)
    require_openat2()
    with StateDir(options.state_dir):
        empty = not any((options.state_dir / "tenants").iterdir())
        if options.when == "first" and first_restore.begun(options.state_dir) is None and not empty:
            return _nothing(options, "There is state here already: nothing is brought back.")
        if options.when == "first" and not options.dry_run:
            first_restore.begin(options.state_dir, options.place)
        try:
            done = _bring_back(options, uid)
        except NobodyHasPushed as error:
            if options.when == "always" or options.tenants or not empty:
                raise
            if not options.dry_run:
                first_restore.begin(options.state_dir, options.place)
            return _nothing(options, f"{error.message} Who is pushed first is brought back before that is in force.")
        if done == DONE and not options.dry_run:
            first_restore.carried_out(options.state_dir)
        return done


def _nothing(options: RestoreOptions, why: str) -> int:
    if options.json:
        screen.show_json({"tenants": [], "not_declared": []})
    else:
        screen.say(why)
    return DONE


def _bring_back(options: RestoreOptions, uid: int) -> int:
    clear_left(options.state_dir)
    secrets = SecretStore.from_environment(secrets_dir=options.secrets_dir)
    return asyncio.run(_recorded(options, secrets, uid))


async def _recorded(options: RestoreOptions, secrets: SecretStore, uid: int) -> int:
    """All of it, with a line of the audit log, of the user ``uid``, for each tenant that comes back."""
    clock = SystemClock()
    audit: Audit | None = None
    if not options.dry_run or options.git is not None:
        audit = Audit(
            state_dir=options.state_dir, clock=clock, credentials_dir=_credentials(), secrets_dir=options.secrets_dir
        )
        await audit.start()
    try:
        return await _all_noted(options, secrets, audit, clock, uid)
    finally:
        if audit is not None:
            await audit.close()


async def _all_noted(
    options: RestoreOptions, secrets: SecretStore, audit: Audit | None, clock: Clock, uid: int
) -> int:  # fmt: skip
    loop = asyncio.get_running_loop()
    noted = noted_in(audit, loop, after="before a start", uid=uid) if audit is not None else _not_noted
    directory = options.tenants_dir
    if options.git is not None and audit is not None:
        directory = await _pulled(options, secrets, audit, clock)
    return await asyncio.to_thread(_all, options, secrets, directory, noted)


def _not_noted(tenant: TenantId, backup: str) -> AbstractContextManager[None]:
    """A dry run changes nothing."""
    return contextlib.nullcontext()


def _all(
    options: RestoreOptions, secrets: SecretStore, directory: Path, noted: Noted
) -> int:  # fmt: skip
    operators, declared = declared_in(directory)
    done, others = Backups(options.state_dir, secrets, _ring(options), options.place).bring(
        operators, _chosen(options, declared), when="always" if options.when == "always" else "empty",
        dry_run=options.dry_run, told=lambda brought: None if options.json else _say(brought), noted=noted,
        known=declared, skip_damaged=options.skip_damaged,
    )  # fmt: skip
    if options.json:
        screen.show_json({"tenants": [asdict(one) for one in done], "not_declared": others})
    elif others:
        screen.note(f"There are backups of tenants that are not declared, and stay there: {', '.join(others[:20])}.")
    return FAILED if any(one.outcome == "failed" for one in done) else DONE


def _places(options: RestoreOptions) -> Places:
    """What is worked with; a directory of backups is where what is declared now says, where that can be seen yet."""
    if options.git is not None:
        return Places(options.state_dir, None, options.secrets_dir, reads_of(options.git, options.state_dir))
    operators, _ = declared_in(options.tenants_dir)
    reads = _reads(location_of(operators.gateway.backup, options.place, anywhere=True))
    return Places(options.state_dir, options.tenants_dir, options.secrets_dir, reads)


async def _pulled(options: RestoreOptions, secrets: SecretStore, audit: Audit, clock: Clock) -> Path:
    """The declarations of the branch, looked for where it is pulled from; raises CarrelError where there are none."""
    declared = await Declared.open(options, secrets=secrets, audit=audit, clock=clock)
    if declared.directory.name == NOTHING:
        if declared.puller is None:
            raise NobodyHasPushed("Nobody has pushed here yet, so nobody is declared.")
        raise CarrelError(f"Nobody is declared, so nobody can be brought back: {declared.puller.message}")
    return declared.directory


def _chosen(options: RestoreOptions, declared: list[TenantId]) -> list[TenantId]:
    chosen = [parse_tenant_id(name) for name in options.tenants]
    for tenant in chosen:
        if tenant not in declared:
            raise NotFound(f"{tenant} is not declared in {options.tenants_dir}.")
    if options.placement is None:
        return chosen or declared
    placement = Placement.model_validate_json(options.placement)
    return [tenant for tenant in chosen or declared if placement.serves(tenant)]


def _reads(location: Location) -> tuple[Path, ...]:
    return (Path(location.prefix),) if location.scheme == "file" else ()


def _credentials() -> Path | None:
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(given) if given else None


def _ring(options: RestoreOptions) -> KeyRing:
    return KeyRing(
        credentials_dir=_credentials(), secrets_dir=options.secrets_dir,
        state_dir=options.state_dir, makes=False,
    )  # fmt: skip


def _say(brought: Brought) -> None:
    if brought.outcome in ("restored", "would restore"):
        word = "is back" if brought.outcome == "restored" else "would be back"
        held = f"{screen.many(brought.files, 'file')}, {brought.bytes} bytes"
        screen.say(f"{brought.tenant} {word}: {held}, from {brought.backup}.")
        if brought.secrets_lost:
            screen.note(f"{brought.tenant}: not without the key that sealed them: {', '.join(brought.secrets_lost)}.")
        if brought.damaged:
            screen.complain(f"{brought.tenant}: damaged when it was backed up: {', '.join(brought.damaged)}.")
        if brought.lost:
            screen.complain(f"{brought.tenant}: not whole in the store, and left out: {screen.names(brought.lost)}.")
    elif brought.outcome == "failed":
        screen.complain(f"{brought.tenant}: {brought.text}")
    else:
        screen.say(f"{brought.tenant} {_WORDS[brought.outcome]}: {brought.text}.")
