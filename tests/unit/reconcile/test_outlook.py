from datetime import timedelta
from pathlib import Path

from carrel.declare.gateway import ReconcileConfig
from carrel.ids import TenantId
from carrel.plan.conditions import Facts, claims_of
from carrel.plan.removal import Loss
from carrel.reconcile.attempts import Attempts
from carrel.reconcile.outlook import Outlook
from carrel.reconcile.patrol import Patrol
from carrel.reconcile.places import Places
from carrel.reconcile.record import Record
from carrel.reconcile.standing import HOUSE
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_tenant

ACME, BETA = TenantId("acme"), TenantId("beta")


def outlook(home: Path, record: Record, clock: FakeClock) -> Outlook:
    places = Places(home)
    return Outlook(record, Attempts(clock), Patrol(places, places, clock))


def test_when_a_removed_tenant_is_deleted_follows_the_policy(tmp_path: Path) -> None:
    clock = FakeClock()
    record = Record.open(tmp_path, clock)
    it, tenant = outlook(tmp_path, record, clock), make_tenant(tmp_path)
    record.inventory.own(ACME, clock.now())
    assert it.delete_at(tenant) is None
    record.inventory.remove(ACME, clock.now())
    assert it.delete_at(tenant) == clock.now() + timedelta(days=30)
    it.policy = ReconcileConfig(delete_after_seconds=None)
    assert it.delete_at(tenant) is None
    record.close()


def test_the_gateways_own_conditions(tmp_path: Path) -> None:
    clock = FakeClock()
    record = Record.open(tmp_path, clock)
    it = outlook(tmp_path, record, clock)
    it.restate_house((), stalled=False, revision="r")
    assert [c.status for c in record.standing.conditions(HOUSE)] == ["True", "False", "False", "False"]
    it.decide(Loss(held=frozenset({ACME}), confirm="abc"))
    it.restate_house((), stalled=False, revision="r")
    ready, _, stalled, _ = record.standing.conditions(HOUSE)
    assert (ready.status, stalled.reason) == ("False", "RemovalNeedsConfirm")
    assert "--confirm abc" in stalled.message
    it.restate_house(("_plans.yaml:1:1: what",), stalled=True, revision="r")
    assert record.standing.conditions(HOUSE)[2].reason == "DeclarationsInvalid"
    record.close()


def test_one_tenant_is_told_as_one(tmp_path: Path) -> None:
    clock = FakeClock()
    record = Record.open(tmp_path, clock)
    it = outlook(tmp_path, record, clock)
    told = []
    for tenant in (ACME, BETA):
        record.standing.update(tenant, claims_of(Facts(environment="building")), "r")
        it.restate_house((), stalled=False, revision="r")
        told.append(record.standing.conditions(HOUSE)[1].message)
    assert told == ["1 tenant", "2 tenants"]
    record.close()
