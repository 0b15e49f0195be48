"""What is declared and what is in force: from one to the other, tenant by tenant. It blocks: run it in a thread.

A tenant whose newest declaration is broken stays on its last good one; one whose file is gone is suspended and keeps
its data; where the operator's own files are broken all stays as it is.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import ValidationError

from carrel.declare.directory import tenant_of
from carrel.declare.load import Judged, Loader, Tree
from carrel.declare.operators import Operators, operators_from
from carrel.declare.problems import DeclarationInvalid, Problem
from carrel.declare.tenant import Agent
from carrel.declare.tenant import Tenant as TenantConfig
from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.plan.changes import changes
from carrel.plan.plan import Action, Observed, ObservedTenant, Plan, Verb, as_json, tenant_action
from carrel.reconcile.record import Record
from carrel.reconcile.status import State, TenantStatus
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.tenancy.overlay import StateOverlays
from carrel.tenancy.paths import LazyTenantRoot, make_tenant_directory

_NO_GOOD_VERSION = "its declaration is broken and there was no good one before"


class World:
    """Loader, record and the handles in force. For one thread at a time."""

    def __init__(
        self, tenants_dir: Path, state_dir: Path, record: Record, here: Callable[[TenantId], bool] | None = None
    ) -> None:
        self.loader = Loader(tenants_dir, cache=record, overlays=StateOverlays(state_dir), here=here)
        self.fault: str | None = None
        self._record = record
        self._home = state_dir / "tenants"
        self._operators: Operators | None = None
        self._in_force: dict[TenantId, Tenant] = {}
        self._unmade: dict[TenantId, str] = {}
        self._removed: set[TenantId] = set()
        self._sum = 0
        self._started = False

    # --- from declared to in force ---

    def start(self) -> tuple[Snapshot, Plan]:
        """The first load; raises DeclarationInvalid where the operator's files are broken and never were good."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._record.warm()
        try:
            self.loader.load(self.loader.changed(), first=self._record.digests())
        finally:
            self._record.cool()
        if self.loader.operators is None and not self._recover_operators():
            raise DeclarationInvalid(p for p in self.loader.tree_problems() if p.severity == "error")
        kept = {t for entry in os.listdir(self._home) if (t := tenant_of(f"{entry}.yaml")) is not None}
        found = self._settle(kept | set(self.loader.tenants))
        self._started = True
        return found

    def _recover_operators(self) -> bool:
        document = self._record.good_operators()
        if document is None:
            return False
        try:
            self._operators = operators_from(document)
        except ValidationError:
            return False
        return True

    def refresh(self, names: Iterable[str]) -> tuple[Snapshot, Plan]:
        """Read the files ``names`` again and bring into force what can be."""
        return self._settle(self.loader.load(names) | self._purged())

    def _purged(self) -> set[TenantId]:
        """Removed tenants whose data is gone too: nothing is left of them to show."""
        return {t for t in self._removed if not (self._home / t).is_dir()}

    def _settle(self, touched: set[TenantId]) -> tuple[Snapshot, Plan]:
        operators, before = self.loader.operators, self._operators
        operator_changes = {}
        if operators is not None and operators is not before:
            now, old = operators.document(), before.document() if before is not None else {}
            operator_changes = {file: c for file in now if (c := tuple(changes(old.get(file, {}), now[file])))}
            self._operators = operators
            self._record.keep_operators(operators.revision, now)
        actions = [action for tenant in sorted(touched) if (action := self._bring(tenant)) is not None]
        problems = tuple(str(problem) for problem in self.loader.tree_problems())
        self._flush()
        plan = Plan(operator_changes, tuple(a for a in actions if a.verb != "broken" or a.problems), problems)
        return self.snapshot(), plan

    def _flush(self) -> None:
        try:
            self._record.flush()
        except CarrelError as error:
            self.fault = f"what is in force could not be recorded: {error.message}"
        else:
            self.fault = None

    def _bring(self, tenant: TenantId) -> Action | None:
        held, judged = self._in_force.get(tenant), self.loader.tenants.get(tenant)
        if judged is None:
            return self._take_away(tenant, held)
        self._unmade.pop(tenant, None)
        action = tenant_action(tenant, judged, _observe(held)) if self._started else _first_action(judged)
        problem = str(judged.errors[0]) if judged.errors else None
        if judged.config is None:
            if held is not None and not held.removed:
                self._put(_with(held, problem=problem or held.problem))
            else:
                self._put(self._from_record(tenant, problem or "the operator's files are broken"))
            return action
        try:
            make_tenant_directory(self._home / tenant)
        except CarrelError as error:
            self._unmade[tenant] = error.message
        config = judged.config
        if held is None or held.revision != judged.revision or held.removed or held.problem is not None:
            root = held.root if held is not None and not held.removed else LazyTenantRoot(self._home / tenant)
            self._put(Tenant(tenant, config, judged.revision, root, suspended=config.suspended))
            self._record.keep(tenant, judged.digest, judged.canonical)
        return action

    def _take_away(self, tenant: TenantId, held: Tenant | None) -> Action | None:
        if not (self._home / tenant).is_dir():
            self._drop(tenant)
            return Action(tenant, "remove") if held is not None and not held.removed else None
        if held is not None and held.removed:
            return None
        self._put(
            _with(held, removed=True) if held is not None else _with(self._from_record(tenant, None), removed=True)
        )
        return Action(tenant, "remove") if held is not None else None

    def _from_record(self, tenant: TenantId, problem: str | None) -> Tenant:
        """The tenant on what the record holds of it; not ready where that is nothing."""
        root = LazyTenantRoot(self._home / tenant)
        good = self._record.good(tenant)
        if good is not None:
            try:
                config = TenantConfig.model_validate_json(good.config)
            except ValidationError:
                good = None
        if good is None:
            config = TenantConfig(agents={"main": Agent()}, suspended=True)
            return Tenant(tenant, config, "", root, suspended=True, problem=problem, ready=problem is None)
        revision = hashlib.sha256(good.config.encode()).hexdigest()
        return Tenant(tenant, config, revision, root, suspended=config.suspended, problem=problem)

    def _put(self, tenant: Tenant) -> None:
        self._drop(tenant.id)
        self._in_force[tenant.id] = tenant
        self._sum += _weight(tenant)
        if tenant.removed:
            self._removed.add(tenant.id)

    def _drop(self, tenant: TenantId) -> None:
        held = self._in_force.pop(tenant, None)
        if held is not None:
            self._sum -= _weight(held)
            self._removed.discard(tenant)

    # --- reporting ---

    def snapshot(self) -> Snapshot:
        """What is in force now."""
        operators = self._operators or Operators()
        total = f"{operators.revision}:{self._sum % (1 << 256):064x}"
        return Snapshot(
            hashlib.sha256(total.encode()).hexdigest(),
            operators.gateway,
            operators.rate_card,
            operators.rate_card_hash,
            operators.allowlists,
            dict(self._in_force),
            operators.plans,
        )

    def observed(self) -> Observed:
        """What is in force, to hold a plan against."""
        seen: dict[str, ObservedTenant] = {}
        for tenant, held in self._in_force.items():
            found = _observe(held)
            if found is not None:
                seen[tenant] = found
        operators = self._operators.document() if self._operators is not None else {}
        return Observed(self.snapshot().revision, operators, seen)

    def tree(self) -> Tree:
        """What is declared, as last read."""
        return self.loader.tree()

    def problems(self) -> tuple[Problem, ...]:
        """Problems that are no one tenant's."""
        return self.loader.tree_problems()

    @property
    def stalled(self) -> bool:
        """Whether nothing of what is declared can come into force."""
        return self.loader.operators is None

    def tenant_statuses(self) -> tuple[TenantStatus, ...]:
        """Every tenant that is declared or has data."""
        return tuple(self._status(self._in_force[tenant]) for tenant in sorted(self._in_force))

    def _status(self, held: Tenant) -> TenantStatus:
        judged = self.loader.tenants.get(held.id)
        problems = tuple(str(problem) for problem in judged.problems) if judged is not None else ()
        state: State = "Ready"
        reason, message = "Applied", "in force"
        if held.removed:
            state, reason, message = "Removed", "FileRemoved", "no longer declared; suspended, its data is kept"
        elif held.problem is not None:
            kept = "the last good version stays in force" if held.ready else _NO_GOOD_VERSION
            state, reason, message = "Stalled", "Invalid" if held.ready else "NeverGood", f"{held.problem}; {kept}"
        elif held.id in self._unmade:
            state, reason, message = "Stalled", "NoDirectory", self._unmade[held.id]
        elif self.stalled and judged is not None and judged.revision != held.revision:
            message = "in force as before: the operator's files are broken"
        elif held.suspended:
            state, reason, message = "Suspended", "Declared", "suspended by its declaration"
        return TenantStatus(
            held.id, state, reason, message, judged.file if judged is not None else None, held.config.plan,
            held.config.packages, judged.digest if judged is not None else "", held.revision, problems,
        )  # fmt: skip


def _observe(held: Tenant | None) -> ObservedTenant | None:
    if held is None or not held.ready:
        return None
    return ObservedTenant(held.revision, as_json(held.config), held.suspended, held.removed)


def _first_action(judged: Judged) -> Action:
    """At the first load every key is new: only what is wrong is worth saying."""
    verb: Verb = "create" if judged.config is not None else "broken"
    return Action(judged.id, verb, problems=tuple(str(problem) for problem in judged.problems))


def _with(held: Tenant, *, problem: str | None = None, removed: bool = False) -> Tenant:
    return Tenant(
        held.id, held.config, held.revision, held.root, suspended=held.suspended or removed, problem=problem,
        ready=held.ready, removed=removed,
    )  # fmt: skip


def _weight(tenant: Tenant) -> int:
    """A number for the tenant's whole state: the sum of them names a snapshot, whatever the order."""
    text = f"{tenant.id}:{tenant.revision}:{tenant.suspended}:{tenant.removed}:{tenant.problem}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest())
