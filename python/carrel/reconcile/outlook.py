"""What is true of each tenant, found from all that is known of it, and told. For the reconciler's thread."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

from carrel.declare.gateway import ReconcileConfig
from carrel.declare.load import Judged
from carrel.ids import TenantId
from carrel.plan.conditions import Claim, Facts, Removal, claims_of
from carrel.plan.removal import Loss
from carrel.reconcile.attempts import Attempts
from carrel.reconcile.patrol import Patrol
from carrel.reconcile.record import Record
from carrel.reconcile.rows import Row
from carrel.reconcile.standing import HOUSE
from carrel.tenancy.handle import Tenant

Environment = tuple[Literal["", "building", "failed"], str]
"""Where the environment of a set of packages stands, and why; empty where tools have one."""
_WELL: Final = claims_of(Facts())
_HAS_ONE: Final[Environment] = ("", "")


class Outlook:
    """Conditions by tenant. ``policy`` and ``environments`` are as they are now; ``loss`` is what was decided last.

    ``resting`` are the tenants for which nothing runs for a while, and why.
    """

    def __init__(self, record: Record, attempts: Attempts, patrol: Patrol) -> None:
        self.policy = ReconcileConfig()
        self.environments: Mapping[frozenset[str], Environment] = {}
        self.resting: dict[TenantId, str] = {}
        self.loss = Loss()
        self.standing_loss: frozenset[TenantId] = frozenset()
        self.deletions = Attempts(attempts.clock)
        self._inventory = record.inventory
        self._standing = record.standing
        self._attempts = attempts
        self._patrol = patrol

    def decide(self, loss: Loss) -> None:
        """Take ``loss`` in place of what was decided before; `standing_loss` are those of whom it was told before."""
        self.standing_loss = self.loss.held | self.loss.refused
        self.loss = loss

    # --- seeing ---

    def restate(self, held: Tenant, judged: Judged | None, *, stalled: bool) -> None:
        """See anew what is true of the tenant."""
        observed = judged.digest if judged is not None else ""
        self._standing.update(held.id, self._claims(held, judged, stalled), observed)

    def restate_house(self, problems: tuple[str, ...], *, stalled: bool, revision: str) -> None:
        """See anew what is true of the gateway as a whole."""
        counts = self._standing.counts()
        waiting, stuck = counts.get(("Reconciling", "True"), 0), counts.get(("Stalled", "True"), 0)
        if stalled:
            text = f"what was in force before stays: {problems[0] if problems else 'nothing can be read'}"
            stall = Claim("Stalled", "True", "DeclarationsInvalid", text)
        elif self.loss.held:
            text = (
                f"{len(self.loss.held)} tenants are gone at once: nothing of them is suspended until "
                f"`carrel reconcile --confirm {self.loss.confirm}`"
            )
            stall = Claim("Stalled", "True", "RemovalNeedsConfirm", text)
        else:
            stall = Claim("Stalled", "False", "NothingBlocks", f"stalled: {_tenants(stuck)}" if stuck else "")
        going = Claim("Reconciling", "False", "UpToDate")
        if waiting:
            going = Claim("Reconciling", "True", "TenantsReconciling", _tenants(waiting))
        ready = Claim("Ready", "True", "Applied", "what is declared is in force")
        if stall.status == "True":
            ready = Claim("Ready", "False", stall.reason, stall.message)
        suspended = Claim("Suspended", "False", "NotSuspended")
        self._standing.update(HOUSE, (ready, going, stall, suspended), revision)

    def _claims(self, held: Tenant, judged: Judged | None, stalled: bool) -> tuple[Claim, ...]:
        facts = self._facts(held, judged, stalled)
        return _WELL if facts is None else claims_of(facts)

    def _facts(self, held: Tenant, judged: Judged | None, stalled: bool) -> Facts | None:
        """What is known of the tenant; None where all of it is well."""
        tenant = held.id
        environment = (
            self.environments.get(frozenset(held.config.packages), _HAS_ONE) if self.environments else _HAS_ONE
        )
        removal, drift = self._removal(held, judged), self._patrol.drift(tenant)
        trouble = self._attempts.trouble(tenant)
        if held.removed:
            trouble = self.deletions.trouble(tenant) or trouble
        waits = stalled and judged is not None and held.problem is None and judged.revision != held.revision
        well = held.ready and not held.suspended and held.problem is None
        if well and removal is None and trouble is None and not (waits or drift or environment[0]):
            return None
        if tenant in self.resting:
            return Facts(held.ready, True, resting=self.resting[tenant])
        return Facts(
            held.ready, held.suspended, held.problem, waits, removal, trouble, environment[0], environment[1],
            tuple(str(one) for one in drift),
        )  # fmt: skip

    def _removal(self, held: Tenant, judged: Judged | None) -> Removal | None:
        if judged is not None:
            return None
        if held.id in self.loss.held:
            return Removal("held", confirm=self.loss.confirm)
        if held.id in self.loss.refused:
            return Removal("refused")
        owned = self._inventory.get(held.id)
        if owned is None or owned.removed is None:
            return Removal("unowned")
        if owned.stage:
            return Removal("deleting")
        return Removal("kept", self.delete_at(held))

    def delete_at(self, held: Tenant) -> datetime | None:
        """When a removed tenant is deleted, None where it is kept or not Carrel's."""
        owned, after = self._inventory.get(held.id), self.policy.delete_after_seconds
        if owned is None or owned.removed is None or after is None:
            return None
        return owned.removed + timedelta(seconds=after)

    # --- telling ---

    def row(self, held: Tenant, judged: Judged | None) -> Row:
        """One tenant, as it was last seen."""
        tenant = held.id
        delete_at = self.delete_at(held) if held.removed else None
        return Row(held, judged, self._standing.stood(tenant), self._patrol.shown(tenant), delete_at)


def _tenants(count: int) -> str:
    return f"{count} tenant" + ("" if count == 1 else "s")
