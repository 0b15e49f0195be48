"""What is declared and what is in force: from one to the other, tenant by tenant. It blocks: run it in a thread.

A tenant whose newest declaration is broken stays on its last good one; one whose file is gone is suspended and keeps
its data; where the operator's own files are broken all stays as it is. What fails for one tenant is its own affair.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from carrel.clock import Clock, SystemClock
from carrel.declare.directory import tenant_of
from carrel.declare.gateway import ReconcileConfig
from carrel.declare.load import Judged, Loader, Tree
from carrel.declare.operators import Operators, operators_from
from carrel.declare.problems import DeclarationInvalid, Problem
from carrel.declare.tenant import Agent
from carrel.declare.tenant import Tenant as TenantConfig
from carrel.durability import make_directory
from carrel.errors import CarrelError, Conflict, NotFound
from carrel.ids import TenantId
from carrel.plan.changes import Change, changes
from carrel.plan.plan import Action, Observed, ObservedTenant, Plan, Verb, as_json, tenant_action
from carrel.plan.removal import WINDOW_SECONDS, judge_loss
from carrel.reconcile.attempts import Attempts
from carrel.reconcile.inventory import Owned
from carrel.reconcile.outlook import Environment, Outlook
from carrel.reconcile.patrol import Patrol
from carrel.reconcile.places import Hands, Places
from carrel.reconcile.record import Record
from carrel.reconcile.rows import Row
from carrel.reconcile.standing import Outcome
from carrel.reconcile.status import TenantStatus
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.tenancy.overlay import StateOverlays
from carrel.tenancy.paths import LazyTenantRoot

_OUTCOMES: Final[Mapping[Verb, Outcome]] = {
    "create": "applied", "update": "applied", "resume": "applied", "suspend": "suspended", "remove": "suspended",
    "broken": "failed", "hold": "held", "refuse": "held", "delete": "deleted",
}  # fmt: skip


class World:
    """Loader, record and the handles in force. For one thread at a time."""

    def __init__(
        self,
        tenants_dir: Path,
        state_dir: Path,
        record: Record,
        *,
        clock: Clock | None = None,
        hands: Hands | None = None,
        here: Callable[[TenantId], bool] | None = None,
    ) -> None:
        self.loader = Loader(tenants_dir, cache=record, overlays=StateOverlays(state_dir), here=here)
        self.fault: str | None = None
        self.clock = clock or SystemClock()
        self.attempts = Attempts(self.clock)
        self.record = record
        self._home = state_dir / "tenants"
        self.places = Places(self._home)
        self.hands = hands or self.places
        self.patrol = Patrol(self.places, self.hands, self.clock)
        self.outlook = Outlook(record, self.attempts, self.patrol)
        self._operators: Operators | None = None
        self._in_force: dict[TenantId, Tenant] = {}
        self._removed: set[TenantId] = set()
        self._ordered: set[TenantId] = set()
        self._lost: list[tuple[float, int]] = []
        self._resting: set[TenantId] = set()
        self._sum = 0
        self._started = False

    # --- from declared to in force ---

    def start(self) -> tuple[Snapshot, Plan]:
        """The first load; raises DeclarationInvalid where the operator's files are broken and never were good."""
        make_directory(self._home)
        self.record.warm()
        try:
            self.loader.load(self.loader.changed(), first=self.record.digests())
            if self.loader.operators is None and not self._recover_operators():
                raise DeclarationInvalid(p for p in self.loader.tree_problems() if p.severity == "error")
            there = self.patrol.begin()
            kept = {t for name in there if (t := tenant_of(f"{name}.yaml")) is not None}
            found = self._settle(kept | set(self.loader.tenants))
        finally:
            self.record.cool()
        self._started = True
        return found

    def _recover_operators(self) -> bool:
        document = self.record.good_operators()
        if document is None:
            return False
        try:
            self._operators = operators_from(document)
        except ValidationError:
            return False
        return True

    def changed(self) -> set[str]:
        """Names of declarations that differ from what was read, theirs whose overlays do among them."""
        return self.loader.changed(overlays_of=self.patrol.moved())

    def refresh(self, names: Iterable[str]) -> tuple[Snapshot, Plan]:
        """Read the files ``names`` again and bring into force what can be, what is due to be tried again too."""
        return self._settle(self.loader.load(names) | self._purged() | self.attempts.due())

    def confirm(self, word: str) -> tuple[Snapshot, Plan]:
        """Suspend the tenants whose loss waits for ``word``; raises Conflict where that is another loss."""
        loss = self.outlook.loss
        if not loss.held:
            raise Conflict("Nothing waits to be confirmed.")
        if word != loss.confirm:
            raise Conflict(
                f"{len(loss.held)} tenants wait, and are confirmed by {loss.confirm}: `carrel plan` names them."
            )
        self._ordered |= loss.held
        return self._settle(set(loss.held))

    def order(self, tenant: TenantId, *, removal: bool) -> None:
        """A person removes this very tenant, or does not after all: it is then no part of a loss."""
        (self._ordered.add if removal else self._ordered.discard)(tenant)

    def hurry(self, tenant: TenantId | None = None) -> None:
        """A person asks: what failed may be tried now."""
        for attempts in (self.attempts, self.outlook.deletions, self.patrol.mends):
            attempts.hurry(tenant)

    def see_environments(self, environments: Mapping[frozenset[str], Environment]) -> None:
        """Take in where the environments stand, and see anew the tenants that have one which changed."""
        before, self.outlook.environments = self.outlook.environments, environments
        changed = {p for p in {*before, *environments} if before.get(p) != environments.get(p)}
        if changed:
            self.restate([t for t, held in self._in_force.items() if frozenset(held.config.packages) in changed])
            self.flush()

    def rest(self, tenant: TenantId, why: str) -> tuple[Snapshot, Plan]:
        """Let nothing run for a tenant until `wake`, whatever is declared meanwhile. Raises NotFound, Conflict."""
        held = self._in_force.get(tenant)
        if held is None or held.removed:
            raise NotFound("No such tenant is declared.")
        if tenant in self._resting:
            raise Conflict(f"{tenant} rests already.")
        self._resting.add(tenant)
        self._put(replace(held, suspended=True, problem=why))
        self.outlook.resting[tenant] = why
        self.restate((tenant,))
        return self.snapshot(), Plan()

    def wake(self, tenant: TenantId) -> tuple[Snapshot, Plan]:
        """Bring the tenant back as it is declared now, with its directory opened and its overlay read anew."""
        self._resting.discard(tenant)
        self.outlook.resting.pop(tenant, None)
        self._release(tenant)
        return self._settle(self.loader.load([f"{tenant}.yaml"]) | {tenant})

    def _purged(self) -> set[TenantId]:
        """Removed tenants whose data is gone too: nothing is left of them to show."""
        return {t for t in self._removed if not (self._home / t).is_dir()}

    def _settle(self, touched: set[TenantId]) -> tuple[Snapshot, Plan]:
        operator_changes = self._take_operators()
        self.outlook.policy = self.policy
        gone = self._judge_loss(touched)
        actions = [action for tenant in sorted(touched | gone) if (action := self._bring(tenant)) is not None]
        problems = tuple(str(problem) for problem in self.loader.tree_problems())
        plan = Plan(
            operator_changes, tuple(a for a in actions if a.verb != "broken" or a.problems), problems,
            self.outlook.loss.confirm,
        )  # fmt: skip
        self._note(plan)
        self.restate(touched | gone)
        self.flush()
        return self.snapshot(), plan

    def _take_operators(self) -> dict[str, tuple[Change, ...]]:
        operators, before = self.loader.operators, self._operators
        if operators is None or operators is before:
            return {}
        now, old = operators.document(), before.document() if before is not None else {}
        self._operators = operators
        self.record.keep_operators(operators.revision, now)
        return {file: c for file in now if (c := tuple(changes(old.get(file, {}), now[file])))}

    def _note(self, plan: Plan) -> None:
        """Keep how it ended for each tenant that something happened to."""
        for action in plan.actions:
            outcome = _OUTCOMES.get(action.verb)
            if outcome is None or (not self._started and self._was(action.tenant)):
                continue
            held = self._in_force.get(TenantId(action.tenant))
            revision = held.revision if held is not None else ""
            what = ", ".join(change.path for change in action.changes[:20]) if action.verb == "update" else ""
            message = next(iter(action.problems), f"{action.verb}: {what}" if what else action.verb)
            self.record.standing.ended(action.tenant, revision, outcome, message)

    def _was(self, tenant: str) -> bool:
        """At a start: whether the tenant is as it was before."""
        held, good = self._in_force.get(TenantId(tenant)), self.record.good(TenantId(tenant))
        return held is not None and good is not None and good.before and held.problem is None and not held.removed

    def restate(self, tenants: Collection[TenantId]) -> None:
        """See anew what is true of ``tenants``."""
        for tenant in tenants:
            held = self._in_force.get(tenant)
            if held is not None:
                self.outlook.restate(held, self.loader.tenants.get(tenant), stalled=self.stalled)

    def flush(self) -> None:
        """Write down what changed; where that fails it is told, and written the next time."""
        try:
            self.record.flush()
        except CarrelError as error:
            self.fault = f"what is in force could not be recorded: {error.message}"
        else:
            self.fault = None

    # --- one tenant ---

    def _bring(self, tenant: TenantId) -> Action | None:
        held, judged = self._in_force.get(tenant), self.loader.tenants.get(tenant)
        if tenant in self._resting:
            return None
        if judged is None:
            return self._take_away(tenant, held)
        action = tenant_action(tenant, judged, self._observe(held)) if self._started else _first_action(judged)
        problem = str(judged.errors[0]) if judged.errors else None
        if judged.config is None:
            if held is not None and not held.removed:
                self._put(_with(held, problem=problem or held.problem))
            else:
                self._put(self._from_record(tenant, problem or "the operator's files are broken"))
            return action
        self._make(tenant, judged.revision)
        self.record.inventory.own(tenant, self.clock.now())
        config = judged.config
        if held is None or held.revision != judged.revision or held.removed or held.problem is not None:
            root = held.root if held is not None and not held.removed else LazyTenantRoot(f"{self._home}/{tenant}")
            self._put(Tenant(tenant, config, judged.revision, root, suspended=config.suspended))
            self.record.keep(tenant, judged.digest, judged.canonical, judged.basis)
        return action

    def _make(self, tenant: TenantId, revision: str) -> None:
        """Have the tenant's directory, where that is not known to be there; a failure is tried again as it may."""
        if self.patrol.has(tenant) or not self.attempts.may(tenant, revision):
            return
        try:
            self.hands.make(tenant)
        except CarrelError as error:
            trouble = self.attempts.failed(tenant, revision, "NoDirectory", error)
            self.record.standing.ended(tenant, revision, "failed", trouble.message)
        else:
            self.attempts.succeeded(tenant)
            self.patrol.made(tenant)

    def _take_away(self, tenant: TenantId, held: Tenant | None) -> Action | None:
        if not (self._home / tenant).is_dir():
            self._ordered.discard(tenant)
            self.drop(tenant)
            return Action(tenant, "remove") if held is not None and not held.removed else None
        if held is not None and held.removed:
            return None
        loss = self.outlook.loss
        if tenant in loss.held or tenant in loss.refused:
            first = held is None or tenant not in self.outlook.standing_loss
            if held is None:
                self._put(self._from_record(tenant, None))
            verb: Verb = "hold" if tenant in loss.held else "refuse"
            return Action(tenant, verb) if first else None
        self._ordered.discard(tenant)
        self._put(
            _with(held, removed=True) if held is not None else _with(self._from_record(tenant, None), removed=True)
        )
        self.record.inventory.remove(tenant, self.clock.now())
        return Action(tenant, "remove") if held is not None else None

    def _judge_loss(self, touched: set[TenantId]) -> set[TenantId]:
        """Decide what is done with tenants that are no longer declared; those whose case may differ now."""
        before = self.outlook.loss
        gone = {t for t in touched | before.held | before.refused if self._is_gone(t)}
        if not gone and not (before.held or before.refused):
            return set()
        now = self.clock.monotonic()
        self._lost = [(at, count) for at, count in self._lost if now - at < WINDOW_SECONDS]
        known = {t: self._in_force.get(t) or self._from_record(t, None) for t in gone}
        loss = judge_loss(
            gone,
            declared=len(self.loader.tenants),
            lately=sum(count for _, count in self._lost),
            share=self.policy.loss_percent / 100,
            protected=[t for t, held in known.items() if held.config.protect],
            ordered=self._ordered,
        )
        if suspended := len(loss.suspend - self._ordered):
            self._lost.append((now, suspended))
        self.outlook.decide(loss)
        return gone | before.held | before.refused

    def _is_gone(self, tenant: TenantId) -> bool:
        """Whether the tenant was in force, is no longer declared, and nothing has been done about that yet."""
        if tenant in self.loader.tenants or not (self._home / tenant).is_dir():
            return False
        held = self._in_force.get(tenant)
        if held is not None:
            return not held.removed
        owned = self.record.inventory.get(tenant)
        return owned is not None and owned.removed is None

    def _from_record(self, tenant: TenantId, problem: str | None) -> Tenant:
        """The tenant on what the record holds of it; not ready where that is nothing."""
        root = LazyTenantRoot(f"{self._home}/{tenant}")
        good = self.record.good(tenant)
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
        self._release(tenant.id)
        self._in_force[tenant.id] = tenant
        self._sum += _weight(tenant)
        if tenant.removed:
            self._removed.add(tenant.id)

    def _release(self, tenant: TenantId) -> None:
        held = self._in_force.pop(tenant, None)
        if held is not None:
            self._sum -= _weight(held)
            self._removed.discard(tenant)

    def drop(self, tenant: TenantId) -> None:
        """Nothing is left of the tenant: neither declaration nor data."""
        self._release(tenant)
        self.attempts.succeeded(tenant)
        self.outlook.deletions.succeeded(tenant)
        self.patrol.forget(tenant)
        self.record.inventory.drop(tenant, self.clock.now())
        self.record.forget(tenant)

    # --- the end of a tenant ---

    def hasten(self, tenant: TenantId) -> None:
        """A person wants the removed tenant deleted now; raises Conflict where it is declared, or not Carrel's."""
        owned = self.record.inventory.get(tenant)
        if tenant in self.loader.tenants or owned is None or owned.removed is None:
            raise Conflict(f"{tenant} is declared, or was not made by Carrel: only what was removed is deleted.")
        self.record.inventory.advance(tenant, "backup")
        self.record.flush()
        self.restate((tenant,))

    def due(self) -> list[TenantId]:
        """The removed tenants whose time is over, and that may be tried."""
        now = self.clock.now()
        found = []
        for tenant in self._removed:
            held, owned = self._in_force[tenant], self.record.inventory.get(tenant)
            if owned is None or not self.outlook.deletions.may(tenant, self._end(owned)):
                continue
            at = self.outlook.delete_at(held)
            if owned.stage or (at is not None and at <= now):
                found.append(tenant)
        return found

    def begin_deletion(self, tenant: TenantId) -> tuple[Tenant, str] | None:
        """Write down that the deletion begins; the handle and the backup that there is already. Raises StorageFull."""
        held, owned = self._in_force.get(tenant), self.record.inventory.get(tenant)
        if held is None or not held.removed or owned is None or owned.removed is None:
            return None
        if not owned.stage:
            self.record.inventory.advance(tenant, "backup")
        self.record.flush()
        self.restate((tenant,))
        return held, owned.backup

    def finish_deletion(self, tenant: TenantId, backup: str) -> Path | None:
        """Take the data away, now that ``backup`` holds it; where it is, to be removed. None where it is wanted again.

        Raises CarrelError; what was done of it until then is gone on with the next time.
        """
        owned = self.record.inventory.get(tenant)
        if owned is None or owned.removed is None or tenant in self.loader.tenants or not backup:
            return None
        self.record.inventory.advance(tenant, "deleting", backup=backup)
        self.record.flush()
        path = self.hands.take(tenant)
        self.drop(tenant)
        self.flush()
        return path

    def failed_deletion(self, tenant: TenantId, error: CarrelError) -> None:
        """Note that it did not go on: nothing is lost, and it is tried again as it may be."""
        owned = self.record.inventory.get(tenant)
        if owned is None or owned.removed is None:
            return
        trouble = self.outlook.deletions.failed(tenant, self._end(owned), "DeletionFailed", error)
        self.record.standing.ended(tenant, "", "failed", f"not deleted: {trouble.message}")
        self.restate((tenant,))
        self.flush()

    def _end(self, owned: Owned) -> str:
        """Names one removal under one policy: where either changes, what failed is tried anew."""
        return f"{owned.removed}:{self._operators.revision if self._operators is not None else ''}"

    # --- what was changed from outside ---

    def inspect(self, tenants: Iterable[TenantId], *, mends: bool | None = None) -> set[TenantId]:
        """Look at the state of ``tenants``, and put right what may be; those of whom something is new.

        By default the policy says whether anything is put right.
        """
        mends = self.policy.drift == "correct" if mends is None else mends
        found = set()
        for tenant in tenants:
            held = self._in_force.get(tenant)
            if held is None or held.removed or tenant in self._resting:
                continue
            news = self.patrol.inspect(tenant, held.revision, mends=mends)
            if news is None:
                continue
            found.add(tenant)
            if news.renewed:
                self._put(_rooted(held, LazyTenantRoot(f"{self._home}/{tenant}")))
            for text in news.corrected:
                self.record.standing.ended(tenant, held.revision, "corrected", text)
            for text in news.failed:
                self.record.standing.ended(tenant, held.revision, "failed", text)
        self.restate(found)
        return found

    # --- reporting ---

    @property
    def policy(self) -> ReconcileConfig:
        """What the operator wants done about removal and drift."""
        return self._operators.gateway.reconcile if self._operators is not None else ReconcileConfig()

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
            operators.plan_hashes,
        )

    def tenant(self, tenant: TenantId) -> Tenant | None:
        """The handle in force."""
        return self._in_force.get(tenant)

    def observed(self) -> Observed:
        """What is in force, to hold a plan against."""
        seen: dict[str, ObservedTenant] = {}
        for tenant, held in self._in_force.items():
            found = self._observe(held)
            if found is not None:
                seen[tenant] = found
        operators = self._operators.document() if self._operators is not None else {}
        lately = sum(count for at, count in self._lost if self.clock.monotonic() - at < WINDOW_SECONDS)
        return Observed(
            self.snapshot().revision, operators, seen, self.clock.now(), lately, self.policy.loss_percent
        )  # fmt: skip

    def _observe(self, held: Tenant | None) -> ObservedTenant | None:
        if held is None or not held.ready:
            return None
        drift = tuple(str(one) for one in self.patrol.shown(held.id))
        at = self.outlook.delete_at(held) if held.removed else None
        return ObservedTenant(held.revision, as_json(held.config), held.suspended, held.removed, at, drift)

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

    @property
    def tenants(self) -> Collection[TenantId]:
        """Every tenant that is declared or has data."""
        return self._in_force.keys()

    def rows(self) -> list[Row]:
        """Every tenant that is declared or has data, in the order of their names."""
        declared, row = self.loader.tenants, self.outlook.row
        return [row(self._in_force[tenant], declared.get(tenant)) for tenant in sorted(self._in_force)]

    def status(self, tenant: TenantId) -> TenantStatus:
        """One tenant of `tenants`."""
        return self.outlook.row(self._in_force[tenant], self.loader.tenants.get(tenant)).status()


def _first_action(judged: Judged) -> Action:
    """At the first load every key is new: only what is wrong is worth saying."""
    verb: Verb = "create" if judged.config is not None else "broken"
    return Action(judged.id, verb, problems=tuple(str(problem) for problem in judged.problems))


def _with(held: Tenant, *, problem: str | None = None, removed: bool = False) -> Tenant:
    return Tenant(
        held.id, held.config, held.revision, held.root, suspended=held.suspended or removed, problem=problem,
        ready=held.ready, removed=removed,
    )  # fmt: skip


def _rooted(held: Tenant, root: LazyTenantRoot) -> Tenant:
    """The same tenant on another directory of the same name."""
    return Tenant(
        held.id, held.config, held.revision, root, suspended=held.suspended, problem=held.problem, ready=held.ready,
        removed=held.removed,
    )  # fmt: skip


def _weight(tenant: Tenant) -> int:
    """A number for the tenant's whole state: the sum of them names a snapshot, whatever the order."""
    text = f"{tenant.id}:{tenant.revision}:{tenant.suspended}:{tenant.removed}:{tenant.problem}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest())
