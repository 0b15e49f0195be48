import json
from collections.abc import Callable
from pathlib import Path

from carrel.reconcile.record import Record
from carrel.reconcile.telling import Telling, house_status
from carrel.reconcile.world import World
from carrel.telemetry import Metrics
from tests.fakes.clock import FakeClock
from tests.fakes.declarations import declare


def test_metrics_conditions_and_the_file_follow_a_pass(tmp_path: Path) -> None:
    clock, metrics = FakeClock(), Metrics()
    declare(tmp_path / "tenants.d", acme="", bravo="suspended: true\n")
    (tmp_path / "state").mkdir()
    record = Record.open(tmp_path / "state", clock)
    world = World(tmp_path / "tenants.d", tmp_path / "state", record, clock=clock)
    world.start()
    telling = Telling(
        tenants_dir=tmp_path / "tenants.d", state_dir=tmp_path / "state", clock=clock, metrics=metrics, version="1"
    )

    def write() -> dict[str, object]:
        house = house_status(
            world, tenants_dir=tmp_path, watching="no", unreadable=None, last=(clock.now(), 0.1)
        )  # fmt: skip
        write_it = telling.write(world, house)
        if write_it is not None:
            write_it()
        found: dict[str, object] = json.loads((tmp_path / "state" / "status.json").read_text())
        return found

    telling.passed(world, unreadable=None, seconds=0.1)
    text = metrics.render().decode()
    assert 'carrel_tenant_conditions{condition="Ready",status="True"} 1.0' in text
    assert 'carrel_tenant_conditions{condition="Suspended",status="True"} 1.0' in text
    assert 'carrel_reconcile_passes_total{outcome="ok"} 1.0' in text
    assert "acme" not in text
    first = write()
    assert first["state"] == "Ready"
    world.order(next(iter(world.tenants)), removal=True)
    (tmp_path / "tenants.d" / "acme.yaml").write_text("suspended: true\n")
    world.refresh(world.loader.changed())
    assert write() == first
    clock.advance(5)
    assert write() != first
    assert telling.write(world, house_status(world, tenants_dir=tmp_path, watching="no", unreadable=None,
                                             last=(clock.now(), 0.1))) is None  # fmt: skip
    telling.passed(world, unreadable="gone", seconds=0.1, failed=True)
    assert 'carrel_reconcile_passes_total{outcome="failed"} 1.0' in metrics.render().decode()
    assert world.record.standing.conditions("_gateway")[2].status == "True"
    record.close()


def test_what_is_overtaken_is_not_written(tmp_path: Path) -> None:
    """Two may be under way at an end: the file is then as the later one found things."""
    clock = FakeClock()
    declare(tmp_path / "tenants.d", acme="")
    (tmp_path / "state").mkdir()
    record = Record.open(tmp_path / "state", clock)
    world = World(tmp_path / "tenants.d", tmp_path / "state", record, clock=clock)
    world.start()
    telling = Telling(
        tenants_dir=tmp_path / "tenants.d", state_dir=tmp_path / "state", clock=clock, metrics=None, version="1"
    )

    def begun(*, now: bool) -> Callable[[], None]:
        house = house_status(world, tenants_dir=tmp_path, watching="no", unreadable=None, last=(clock.now(), 0.1))
        write = telling.write(world, house, now=now)
        assert write is not None
        return write

    early = begun(now=False)
    (tmp_path / "tenants.d" / "bravo.yaml").write_text("plan: pro\n")
    world.refresh(world.loader.changed())
    late = begun(now=True)
    late()
    early()
    found = json.loads((tmp_path / "state" / "status.json").read_text())
    assert [tenant["id"] for tenant in found["tenants"]] == ["acme", "bravo"]
    record.close()
