"""Tenants brought back as one directory of declarations says: before a gateway starts, or with a first push."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from carrel.backup.archives import SCRATCH
from carrel.backup.boot import Brought, When, bring_all, not_declared
from carrel.backup.keyfile import Keys
from carrel.backup.run import Means
from carrel.backup.target import Secrets, location_of, options_of
from carrel.clock import SystemClock
from carrel.declare.load import load_tree
from carrel.declare.operators import Operators
from carrel.errors import CarrelError
from carrel.ids import TenantId, new_request_id
from carrel.main.carry_over import carry_over
from carrel.objects.open import open_store
from carrel.objects.pace import Pace


def declared_in(directory: Path) -> tuple[Operators, list[TenantId]]:
    """What the operator declares there, and who; raises CarrelError where it is not right."""
    tree = load_tree(directory)
    if tree.operators is None:
        problems = "; ".join(str(problem) for problem in tree.errors[:3])
        raise CarrelError(f"What the operator declares in {directory} is not right: {problems}")
    return tree.operators, sorted(tree.tenants)


class Recorder(Protocol):
    """Writes down what was done."""

    def change(
        self, *, actor: str, action: str, target: str, request_id: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> AbstractAsyncContextManager[None]:  # fmt: skip
        """Make a change within it: its one line says how it ended. Raises StorageFull where none could be kept."""
        ...


Noted = Callable[[TenantId, str], AbstractContextManager[None]]
"""Within it a backup, by its id, takes a tenant's place, and has its line."""


def noted_in(audit: Recorder, loop: asyncio.AbstractEventLoop, *, after: str, uid: int) -> Noted:
    """Lines of the user ``uid`` in ``audit``, from threads beside ``loop``; ``after`` says when it was."""
    request_id = new_request_id()

    @contextlib.contextmanager
    def noted(tenant: TenantId, backup: str) -> Iterator[None]:
        change = audit.change(
            actor=f"uid:{uid}", action="tenants.restore", target=f"{tenant}/{backup}", tenant=tenant,
            request_id=request_id, after=after,
        )  # fmt: skip
        _there(loop, change.__aenter__)
        try:
            yield
        except BaseException:
            wrong = sys.exc_info()
            _there(loop, lambda: change.__aexit__(*wrong))
            raise
        _there(loop, lambda: change.__aexit__(None, None, None))

    return noted


def _there(loop: asyncio.AbstractEventLoop, call: Callable[[], Coroutine[Any, Any, object]]) -> None:
    asyncio.run_coroutine_threadsafe(call(), loop).result()


def _others(means: Means, known: Sequence[TenantId], done: Sequence[Brought]) -> list[str]:
    """Whose backups are there beside ``known``: worth telling, and no reason that who is back would not be served."""
    if not done:
        return not_declared(means, known)
    if all(one.outcome == "kept" for one in done):
        return []
    with contextlib.suppress(CarrelError):
        return not_declared(means, known)
    return []


@dataclass(frozen=True, slots=True)
class Backups:
    """Where they are: ``place``, or as declared where that is None. Nobody else may write ``state_dir`` meanwhile."""

    state_dir: Path
    secrets: Secrets
    keys: Keys
    place: str | None

    def bring(
        self, operators: Operators, tenants: Sequence[TenantId], *, when: When = "empty", dry_run: bool = False,
        told: Callable[[Brought], None], noted: Noted, known: Sequence[TenantId], skip_damaged: bool = False,
    ) -> tuple[list[Brought], list[str]]:  # fmt: skip
        """Bring ``tenants`` back; what became of each, and whose backups are there beside ``known``. Blocking.

        ``skip_damaged``, ``told`` and ``noted`` are as `backup.boot.bring_all` takes them.
        Raises CarrelError where nobody is declared and the store cannot be asked; a failure of one tenant is in its
        outcome. Where all stay as they are the store is not asked: it may be away.
        """
        backup = operators.gateway.backup
        pace = Pace(backup.bytes_per_second)
        location = location_of(backup, self.place, anywhere=True)
        with contextlib.closing(open_store(location, options_of(backup, self.secrets), pace=pace)) as store:
            means = Means(store, self.keys, SystemClock(), pace, self.state_dir / "run" / SCRATCH)
            done = bring_all(
                self.state_dir / "tenants", tenants, means, when=when, dry_run=dry_run, told=told,
                carry_over=carry_over, noted=noted, skip_damaged=skip_damaged,
            )  # fmt: skip
            return done, _others(means, known, done)
