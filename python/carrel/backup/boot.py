"""Every declared tenant brought back before a gateway starts: on an empty machine, from the declarations and a store.

No gateway may run on the state directory: whoever calls this holds its lock. Blocking.
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from carrel.backup.keyfile import NoRepository
from carrel.backup.progress import Progress
from carrel.backup.repository import Repository
from carrel.backup.restore import look, prepare
from carrel.backup.run import Means
from carrel.backup.swap import is_empty, staged, swap_in
from carrel.errors import CarrelError
from carrel.ids import TENANT_ID_PATTERN, TenantId
from carrel.tenancy.removal import remove_tree

AT_A_TIME: Final = 4
When = Literal["empty", "always"]
Outcome = Literal["restored", "kept", "none", "failed", "would restore"]


@dataclass(frozen=True, slots=True)
class Brought:
    """What became of one tenant. `kept`: it has data; `none`: there is no backup of it; ``text`` says more.

    ``damaged`` names files that were so when the backup was made, ``lost`` ones that are not whole in the store.
    """

    tenant: TenantId
    outcome: Outcome
    backup: str | None = None
    files: int = 0
    bytes: int = 0
    secrets_lost: tuple[str, ...] = ()
    text: str = ""
    damaged: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def bring_all(
    home: Path, tenants: Sequence[TenantId], means: Means, *, when: When, dry_run: bool,
    told: Callable[[Brought], None], carry_over: Callable[[Path, Path, TenantId], object],
    noted: Callable[[TenantId, str], AbstractContextManager[None]], skip_damaged: bool = False,
) -> list[Brought]:  # fmt: skip
    """Bring ``tenants`` back, some at a time; ``told`` of each as it is done. A failure is that tenant's own.

    Within ``noted``, which writes down how it ended, a backup takes a tenant's place; it raises before that where no
    line could be kept.

    ``when`` `empty`: only who has nothing. What there is of others is kept beside with `always`, until it is confirmed,
    and ``carry_over`` puts what never goes back in time into the new directory before it takes the live one's place.
    ``skip_damaged``: files that are not whole in the store are left out.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)

    def one(tenant: TenantId) -> Brought:
        done = _one(home, tenant, means, when, dry_run, carry_over=carry_over, noted=noted, skip_damaged=skip_damaged)
        told(done)
        return done

    with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="carrel-boot") as pool:
        return list(pool.map(one, tenants))


def not_declared(means: Means, tenants: Sequence[TenantId]) -> list[str]:
    """Tenants of whom there are backups in the store, and who are not among ``tenants``. Not a folder of archives."""
    others = sorted(set(means.store.folders()) - set(tenants))
    return [name for name in others if re.fullmatch(TENANT_ID_PATTERN, name) and _has_backups(means, name)]


def _has_backups(means: Means, name: str) -> bool:
    return next(iter(means.store.list(f"{name}/manifests/")), None) is not None


def _one(
    home: Path, tenant: TenantId, means: Means, when: When, dry_run: bool, *,
    carry_over: Callable[[Path, Path, TenantId], object],
    noted: Callable[[TenantId, str], AbstractContextManager[None]], skip_damaged: bool,
) -> Brought:  # fmt: skip
    try:
        if when == "empty" and not is_empty(home, tenant):
            return Brought(tenant, "kept", text="it has data")
        repository = Repository.at(means.store, tenant, means.keys)
        if dry_run:
            seen = look(repository, tenant, None)
            return Brought(tenant, "would restore", seen.backup, seen.files, seen.bytes, damaged=seen.damaged)
        try:
            done = prepare(repository, home, tenant, None, means=means, progress=Progress(), skip_damaged=skip_damaged)
            carry_over(home / tenant, staged(home, tenant), tenant)
            with noted(tenant, done.backup):
                swap_in(home, tenant)
        finally:
            remove_tree(staged(home, tenant))
    except NoRepository:
        return Brought(tenant, "none", text="there is no backup of it")
    except CarrelError as error:
        return Brought(tenant, "failed", text=error.message)
    return Brought(
        tenant, "restored", done.backup, done.files, done.bytes, done.secrets_lost, damaged=done.damaged,
        lost=done.lost,
    )  # fmt: skip
