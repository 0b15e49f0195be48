"""`carrel restore`: the state directory's lock, the declarations, the keys and the store, and then all tenants."""

import contextlib
import os
from dataclasses import asdict
from pathlib import Path
from typing import Final

from carrel.backup.boot import Brought, bring_all, not_declared
from carrel.backup.run import Means
from carrel.backup.service import SCRATCH, clear_left
from carrel.backup.target import location_of, options_of
from carrel.cli import screen
from carrel.cli.failures import DONE, FAILED
from carrel.cli.restore_options import RestoreOptions
from carrel.clock import SystemClock
from carrel.declare.load import load_tree
from carrel.declare.operators import Operators
from carrel.errors import CarrelError, NotFound
from carrel.ids import TenantId, parse_tenant_id
from carrel.main.carry_over import carry_over
from carrel.main.privilege import Places, drop_root
from carrel.main.statedir import StateDir
from carrel.objects.location import Location
from carrel.objects.open import open_store
from carrel.objects.pace import Pace
from carrel.secrets import SecretStore
from carrel.tenancy.paths import require_openat2
from carrel.vault.ring import KeyRing

_WORDS: Final = {"kept": "stays as it is", "none": "begins anew"}


def run_restore(options: RestoreOptions) -> int:
    """Bring all tenants back; 0 where none failed. Where root starts it, it is executed anew as the gateway's uid."""
    operators, declared = _declared(options.tenants_dir)
    location = location_of(operators.gateway.backup, options.place, anywhere=True)
    drop_root(Places(options.state_dir, options.tenants_dir, options.secrets_dir, _reads(location)))
    require_openat2()
    tenants = _chosen(options, declared)
    with StateDir(options.state_dir):
        clear_left(options.state_dir)
        secrets = SecretStore.from_environment(secrets_dir=options.secrets_dir)
        pace = Pace(operators.gateway.backup.bytes_per_second)
        store = open_store(location, options_of(operators.gateway.backup, secrets), pace=pace)
        with contextlib.closing(store):
            means = Means(store, _ring(options), SystemClock(), pace, options.state_dir / "run" / SCRATCH)
            done = bring_all(
                options.state_dir / "tenants", tenants, means, when=options.when, dry_run=options.dry_run,
                told=lambda brought: None if options.json else _say(brought), carry_over=carry_over,
            )  # fmt: skip
            others = not_declared(means, declared)
    if options.json:
        screen.show_json({"tenants": [asdict(one) for one in done], "not_declared": others})
    elif others:
        screen.note(f"There are backups of tenants that are not declared, and stay there: {', '.join(others[:20])}.")
    return FAILED if any(one.outcome == "failed" for one in done) else DONE


def _declared(tenants_dir: Path) -> tuple[Operators, list[TenantId]]:
    tree = load_tree(tenants_dir)
    if tree.operators is None:
        problems = "; ".join(str(problem) for problem in tree.errors[:3])
        raise CarrelError(f"What the operator declares in {tenants_dir} is not right: {problems}")
    return tree.operators, sorted(tree.tenants)


def _chosen(options: RestoreOptions, declared: list[TenantId]) -> list[TenantId]:
    chosen = [parse_tenant_id(name) for name in options.tenants]
    for tenant in chosen:
        if tenant not in declared:
            raise NotFound(f"{tenant} is not declared in {options.tenants_dir}.")
    return chosen or declared


def _reads(location: Location) -> tuple[Path, ...]:
    return (Path(location.prefix),) if location.scheme == "file" else ()


def _ring(options: RestoreOptions) -> KeyRing:
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    return KeyRing(
        credentials_dir=Path(credentials) if credentials else None, secrets_dir=options.secrets_dir,
        state_dir=options.state_dir, makes=False,
    )  # fmt: skip


def _say(brought: Brought) -> None:
    if brought.outcome in ("restored", "would restore"):
        word = "is back" if brought.outcome == "restored" else "would be back"
        screen.say(f"{brought.tenant} {word}: {brought.files} files, {brought.bytes} bytes, from {brought.backup}.")
        if brought.secrets_lost:
            screen.note(f"{brought.tenant}: not without the key that sealed them: {', '.join(brought.secrets_lost)}.")
    elif brought.outcome == "failed":
        screen.complain(f"{brought.tenant}: {brought.text}")
    else:
        screen.say(f"{brought.tenant} {_WORDS[brought.outcome]}: {brought.text}.")
