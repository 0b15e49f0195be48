from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.declare.problems import DeclarationInvalid
from carrel.ids import TenantId
from carrel.plan.plan import Plan
from carrel.reconcile.record import Record
from carrel.reconcile.status import TenantStatus
from carrel.reconcile.world import World
from carrel.tenancy.handle import Snapshot
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
        return next(s for s in self.world.tenant_statuses() if s.id == tenant)

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
