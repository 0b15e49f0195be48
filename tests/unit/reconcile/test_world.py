import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.declare.problems import DeclarationInvalid
from carrel.errors import CarrelError, Conflict, StorageFull
from carrel.ids import TenantId
from carrel.plan.plan import Plan
from carrel.reconcile.places import Places
from carrel.reconcile.record import Record
from carrel.reconcile.status import TenantStatus
from carrel.reconcile.world import World
from carrel.tenancy.handle import Snapshot
from tests.fakes.clock import FakeClock
from tests.fakes.declarations import declare

ACME, OTHER = TenantId("acme"), TenantId("other")


class House:
    """A world on a directory, that can be restarted."""

    def __init__(self, home: Path, **tenants: str) -> None:
        self.path = declare(home / "tenants.d", **tenants)
        self.state = home / "state"
        self.state.mkdir()
        self.snapshot, self.plan = self.restart()

    def restart(self) -> tuple[Snapshot, Plan]:
        self.close()
        self.record: Record | None = Record.open(self.state)
        self.world = World(self.path, self.state, self.record)
        self.snapshot, self.plan = self.world.start()
        return self.snapshot, self.plan

    def write(self, **tenants: str | None) -> Snapshot:
        for name, text in tenants.items():
            file = self.path / f"{name}.yaml"
            if text is None:
                file.unlink()
            else:
                file.write_text(text)
        self.snapshot, self.plan = self.world.refresh(self.world.loader.changed())
        return self.snapshot

    def status(self, tenant: TenantId) -> TenantStatus:
        return self.world.status(tenant)

    def close(self) -> None:
        record = getattr(self, "record", None)
        if record is not None:
            record.close()
            self.record = None


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path, acme="display_name: Acme\n", other="")
    yield made
    made.close()


def test_what_is_declared_comes_into_force(house: House) -> None:
    acme = house.snapshot.tenant(ACME)
    assert acme.config.display_name == "Acme"
    assert not acme.suspended
    assert house.status(ACME).state == "Ready"
    assert (house.state / "tenants" / "acme").stat().st_mode & 0o777 == 0o700
    assert acme.root.entries() is not None


def test_a_change_is_a_new_snapshot_and_the_old_one_stays_as_it_was(house: House) -> None:
    before = house.snapshot
    house.write(acme="display_name: New\n")
    assert house.snapshot.tenant(ACME).config.display_name == "New"
    assert before.tenant(ACME).config.display_name == "Acme"
    assert house.snapshot.revision != before.revision
    assert house.snapshot.tenant(OTHER) is before.tenant(OTHER)
    assert house.snapshot.tenant(ACME).root is before.tenant(ACME).root


def test_a_broken_file_leaves_its_tenant_on_the_last_good_version(house: House) -> None:
    house.write(acme="display_name: [\n")
    acme = house.snapshot.tenant(ACME)
    assert acme.config.display_name == "Acme"
    assert acme.problem is not None
    assert acme.problem.startswith("acme.yaml:2:1")
    assert not acme.suspended
    assert house.status(ACME).state == "Stalled"
    assert house.status(OTHER).state == "Ready"
    assert [a.verb for a in house.plan.actions] == ["broken"]
    house.write(acme="display_name: Mended\n")
    assert house.snapshot.tenant(ACME).problem is None
    assert house.status(ACME).state == "Ready"


def test_the_last_good_version_outlives_a_restart(house: House) -> None:
    house.write(acme="display_name: [\n")
    house.restart()
    assert house.snapshot.tenant(ACME).config.display_name == "Acme"
    assert house.status(ACME).state == "Stalled"


def test_a_tenant_that_was_never_good_does_not_run(house: House) -> None:
    house.write(new="nope: 1\n")
    new = house.snapshot.tenant(TenantId("new"))
    assert new.suspended
    assert not new.ready
    assert house.status(TenantId("new")).reason == "NeverGood"
    house.write(new="")
    assert house.snapshot.tenant(TenantId("new")).ready


def test_a_removed_file_suspends_and_keeps_the_data(house: House) -> None:
    house.snapshot.tenant(ACME).root.replace("memory/x", b"kept")
    house.write(acme=None)
    acme = house.snapshot.tenant(ACME)
    assert acme.suspended
    assert acme.removed
    assert acme.config.display_name == "Acme"
    assert house.status(ACME).state == "Removed"
    house.restart()
    assert house.status(ACME).state == "Removed"
    assert house.snapshot.tenant(ACME).config.display_name == "Acme"
    house.write(acme="display_name: Back\n")
    assert not house.snapshot.tenant(ACME).suspended
    assert house.snapshot.tenant(ACME).root.read("memory/x", limit=10) == b"kept"


def test_a_removed_tenant_without_data_is_forgotten(house: House) -> None:
    house.write(acme=None)
    home = house.state / "tenants" / "acme"
    for entry in home.iterdir():
        entry.rmdir()
    home.rmdir()
    house.write()
    assert ACME not in house.snapshot.tenants
    house.write(acme="")
    house.snapshot.tenant(ACME).root.replace("memory/x", b"new")
    assert (home / "memory" / "x").read_bytes() == b"new"


def test_suspension_is_declared(house: House) -> None:
    house.write(acme="suspended: true\n")
    assert house.snapshot.tenant(ACME).suspended
    assert house.status(ACME).state == "Suspended"
    assert [a.verb for a in house.plan.actions] == ["suspend"]


def test_broken_operators_leave_all_as_it_was(house: House) -> None:
    plans = house.path / "_plans.yaml"
    good = plans.read_text()
    plans.write_text("nope: 1\n")
    before = house.snapshot
    house.write(acme="display_name: Waits\n")
    assert house.world.stalled
    assert house.snapshot.revision == before.revision
    assert "_plans.yaml:1:1" in str(house.world.problems()[0])
    plans.write_text(good)
    house.write()
    assert house.snapshot.tenant(ACME).config.display_name == "Waits"


def test_broken_operators_at_a_restart_leave_the_last_good_ones(house: House) -> None:
    (house.path / "_gateway.yaml").write_text("nope: 1\n")
    house.restart()
    assert house.world.stalled
    assert house.snapshot.gateway.default_model == "demo"
    assert house.snapshot.tenant(ACME).config.display_name == "Acme"


def test_broken_operators_at_the_first_start_are_an_error(tmp_path: Path) -> None:
    path = declare(tmp_path / "tenants.d", acme="")
    (path / "_gateway.yaml").write_text("nope: 1\nmodels: 2\n")
    record = Record.open(tmp_path / "state")
    with pytest.raises(DeclarationInvalid) as caught:
        World(path, tmp_path / "state", record).start()
    assert len(caught.value.problems) == 2
    record.close()


def test_an_overlay_goes_over_the_file_and_a_wrong_one_stalls_its_tenant(house: House) -> None:
    root = house.snapshot.tenant(ACME).root
    root.replace("config.yaml", b"packages: [jq]\n")
    house.write()
    assert house.snapshot.tenant(ACME).config.packages == ("jq",)
    root.replace("config.yaml", b"quotas: {tokens_per_day: 9}\n")
    house.write()
    assert house.snapshot.tenant(ACME).config.packages == ("jq",)
    assert "acme/config.yaml:1:1: quotas: only the operator" in (house.snapshot.tenant(ACME).problem or "")
    root.remove("config.yaml")
    house.write()
    assert house.snapshot.tenant(ACME).config.packages == ()
    assert house.snapshot.tenant(ACME).problem is None


def test_a_restart_changes_nothing(house: House) -> None:
    before = house.snapshot.revision
    house.restart()
    assert house.snapshot.revision == before
    assert house.world.observed().tenants.keys() == {"acme", "other"}


# --- many gone at once ---


def many(home: Path, count: int = 10) -> House:
    return House(home, **{f"t{n}": "" for n in range(count)})


def test_many_gone_at_once_are_held_until_the_word(tmp_path: Path) -> None:
    house = many(tmp_path)
    house.write(t0=None, t1=None, t2=None)
    assert not any(tenant.suspended for tenant in house.snapshot.tenants.values())
    assert [a.verb for a in house.plan.actions] == ["hold"] * 3
    assert house.status(TenantId("t0")).reason == "RemovalNeedsConfirm"
    word = house.plan.confirm
    assert word in house.status(TenantId("t1")).message
    house.write()
    assert [a.verb for a in house.plan.actions] == []
    with pytest.raises(Conflict, match=word):
        house.world.confirm("0" * 12)
    house.snapshot, house.plan = house.world.confirm(word)
    assert sum(tenant.suspended for tenant in house.snapshot.tenants.values()) == 3
    assert house.status(TenantId("t0")).state == "Removed"
    with pytest.raises(Conflict, match="Nothing waits"):
        house.world.confirm(word)
    house.close()


def test_what_is_held_stays_held_over_a_restart_and_is_let_go_when_it_is_back(tmp_path: Path) -> None:
    house = many(tmp_path)
    house.write(**{f"t{n}": None for n in range(10)})
    house.restart()
    assert len(house.snapshot.tenants) == 10
    assert not any(tenant.suspended for tenant in house.snapshot.tenants.values())
    house.write(**{f"t{n}": "" for n in range(10)})
    assert {row.brief().state for row in house.world.rows()} == {"Ready"}
    assert not house.world.outlook.loss.held
    house.close()


def test_a_loss_bit_by_bit_is_a_loss_all_the_same(tmp_path: Path) -> None:
    house = many(tmp_path)
    house.write(t0=None)
    house.write(t1=None)
    assert house.snapshot.tenant(TenantId("t1")).removed
    house.write(t2=None)
    assert not house.snapshot.tenant(TenantId("t2")).suspended
    assert house.status(TenantId("t2")).reason == "RemovalNeedsConfirm"
    house.close()


def test_what_a_person_removes_by_name_is_no_loss(tmp_path: Path) -> None:
    house = many(tmp_path, 2)
    for name in ("t0", "t1"):
        house.world.order(TenantId(name), removal=True)
        house.write(**{name: None})
        assert house.snapshot.tenant(TenantId(name)).removed
    house.close()


def test_a_protected_tenant_stays_in_force(house: House) -> None:
    house.write(acme="protect: true\n")
    house.write(acme=None)
    assert not house.snapshot.tenant(ACME).suspended
    assert house.status(ACME).reason == "Protected"
    house.restart()
    assert not house.snapshot.tenant(ACME).suspended
    house.write(acme="")
    house.write(acme=None)
    assert house.snapshot.tenant(ACME).removed


# --- the end ---


def ended(house: House, clock: FakeClock) -> None:
    house.close()
    house.record = Record.open(house.state, clock)
    house.world = World(house.path, house.state, house.record, clock=clock)
    house.snapshot, house.plan = house.world.start()


def test_only_what_was_made_and_is_over_its_time_is_due(house: House) -> None:
    clock = FakeClock()
    (house.state / "tenants" / "stranger").mkdir(mode=0o700)
    ended(house, clock)
    house.write(acme=None)
    assert house.status(TenantId("stranger")).reason == "NotInInventory"
    assert house.world.due() == []
    clock.advance(29 * 86400)
    assert house.world.due() == []
    clock.advance(2 * 86400)
    assert house.world.due() == [ACME]
    house.write(acme="")
    assert house.world.due() == []
    assert house.status(ACME).state == "Ready"


def test_a_deletion_that_is_cut_off_is_gone_on_with(house: House) -> None:
    clock = FakeClock()
    ended(house, clock)
    house.write(acme=None)
    clock.advance(31 * 86400)
    assert house.world.begin_deletion(ACME) is not None
    ended(house, clock)
    assert house.world.due() == [ACME]
    assert house.status(ACME).reason == "Deleting"
    assert house.world.finish_deletion(ACME, "") is None
    assert (house.state / "tenants" / "acme").is_dir()
    house.world.record.inventory.advance(ACME, "deleting", backup="b")
    house.world.record.flush()
    ended(house, clock)
    begun = house.world.begin_deletion(ACME)
    assert begun is not None
    assert begun[1] == "b"
    assert house.world.finish_deletion(ACME, "b") is not None
    assert house.world.tenant(ACME) is None
    ended(house, clock)
    assert ACME not in house.snapshot.tenants
    assert [one.tenant for one in house.world.record.deletions()] == ["acme"]


def test_a_tenant_that_is_wanted_again_is_not_deleted(house: House) -> None:
    house.write(acme=None)
    house.world.hasten(ACME)
    assert house.world.due() == [ACME]
    house.write(acme="")
    assert house.world.begin_deletion(ACME) is None
    assert house.world.finish_deletion(ACME, "b") is None
    with pytest.raises(Conflict):
        house.world.hasten(ACME)


def test_a_deletion_that_fails_waits(house: House) -> None:
    clock = FakeClock()
    ended(house, clock)
    house.write(acme=None)
    house.world.hasten(ACME)
    house.world.failed_deletion(ACME, StorageFull("Full."))
    assert house.world.due() == []
    assert house.status(ACME).conditions[1].reason == "DeletionFailed"
    clock.advance(2)
    assert house.world.due() == [ACME]


# --- what fails, and what was changed from outside ---


class Faulty(Places):
    """Fails for one tenant."""

    error: CarrelError | None = None
    tried = 0

    def make(self, tenant: TenantId) -> None:
        if tenant == "new" and self.error is not None:
            self.tried += 1
            raise self.error
        super().make(tenant)


@pytest.mark.parametrize(("error", "state"), [(StorageFull("Full."), "Reconciling"), (Conflict("No."), "Stalled")])
def test_a_failure_is_one_tenants_and_is_tried_again_as_it_may(house: House, error: CarrelError, state: str) -> None:
    clock = FakeClock()
    ended(house, clock)
    faulty = Faulty(house.state / "tenants")
    faulty.error, house.world.hands = error, faulty
    house.write(new="", more="")
    new = TenantId("new")
    assert (house.status(new).state, house.status(new).reason) == (state, "NoDirectory")
    assert house.status(TenantId("more")).state == "Ready"
    for _ in range(5):
        house.write()
    assert faulty.tried == 1
    clock.advance(3600)
    house.write()
    assert faulty.tried == (2 if state == "Reconciling" else 1)
    faulty.error = None
    house.world.hurry(new)
    house.write()
    house.write(new="display_name: Changed\n")
    assert house.status(new).state == "Ready"
    assert house.status(new).results[-1].outcome == "applied"


def test_drift_is_corrected_or_reported_by_the_policy(house: House) -> None:
    home = house.state / "tenants" / "acme"
    home.chmod(0o755)
    assert house.world.inspect([ACME]) == {ACME}
    assert home.stat().st_mode & 0o777 == 0o700
    assert house.status(ACME).results[-1].outcome == "corrected"
    gateway = house.path / "_gateway.yaml"
    gateway.write_text(gateway.read_text() + "reconcile: {drift: report}\n")
    house.write()
    home.chmod(0o755)
    house.world.inspect([ACME])
    assert home.stat().st_mode & 0o777 == 0o755
    status = house.status(ACME)
    assert status.drift == ("tenants/acme: mode 0755, where mode 0700 is wanted",)
    assert (status.state, status.conditions[1].reason) == ("Ready", "Drifted")
    assert house.world.observed().tenants["acme"].drift == status.drift


def test_a_directory_that_vanished_is_made_anew_and_used(house: House) -> None:
    root = house.snapshot.tenant(ACME).root
    root.replace("memory/x", b"old")
    shutil.rmtree(house.state / "tenants" / "acme")
    house.world.inspect([ACME])
    fresh = house.world.snapshot().tenant(ACME).root
    assert fresh is not root
    fresh.replace("memory/x", b"new")
    assert (house.state / "tenants" / "acme" / "memory" / "x").read_bytes() == b"new"


def test_environments_are_in_the_conditions(house: House) -> None:
    house.write(acme="packages: [jq]\n")
    house.world.see_environments({frozenset({"jq"}): ("failed", "no such thing")})
    assert (house.status(ACME).state, house.status(ACME).reason) == ("Stalled", "EnvironmentFailed")
    assert house.status(OTHER).state == "Ready"
    house.world.see_environments({frozenset({"jq"}): ("building", "")})
    assert house.status(ACME).reason == "BuildingEnvironment"
    house.world.see_environments({})
    assert house.status(ACME).reason == "Applied"


def test_conditions_and_results_outlive_a_restart(house: House) -> None:
    house.write(acme="suspended: true\n")
    before = house.status(ACME)
    house.restart()
    after = house.status(ACME)
    assert (after.conditions, after.results) == (before.conditions, before.results)
    assert after.results[-1].outcome == "suspended"
