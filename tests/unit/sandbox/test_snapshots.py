"""Snapshots: whole or not there, and the way back in one step."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.agents.workspace import remove_workspace
from carrel.clock import SystemClock
from carrel.errors import NotFound, TooLarge
from carrel.sandbox.snapshots import PLACE, Snapshots
from carrel.tenancy.handle import Tenant
from tests.fakes.tenants import make_tenant

MOST = 1 << 30


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    made = make_tenant(tmp_path)
    made.root.directory("sandbox", create=True).close()
    yield made
    made.root.close()


@pytest.fixture
def snapshots() -> Snapshots:
    return Snapshots(clock=SystemClock(), removes=remove_workspace)


def workspace(tmp_path: Path) -> Path:
    return tmp_path / "tenants/acme/sandbox"


def test_there_and_back_and_back_again(snapshots: Snapshots, tenant: Tenant, tmp_path: Path) -> None:
    file = workspace(tmp_path) / "file"
    file.write_text("good")
    made = snapshots.make(tenant, "sandbox", label="before", keep=5, most_bytes=MOST)
    assert (made.files, made.label) == (1, "before")
    file.write_text("bricked")
    (workspace(tmp_path) / "junk").mkdir()
    to, before = snapshots.roll_back(tenant, made.id, keep=5, most_bytes=MOST)
    assert to.id == made.id
    assert [path.name for path in workspace(tmp_path).iterdir()] == ["file"]
    assert file.read_text() == "good"
    file.write_text("changed since, and the snapshot is not")
    snapshots.roll_back(tenant, before.id, keep=5, most_bytes=MOST)
    assert file.read_text() == "bricked"
    snapshots.roll_back(tenant, made.id, keep=5, most_bytes=MOST)
    assert file.read_text() == "good"


def test_so_many_are_kept_of_each_workspace(snapshots: Snapshots, tenant: Tenant) -> None:
    tenant.root.directory("sandbox.d/session-one", create=True).close()
    ids = [snapshots.make(tenant, "sandbox", keep=3, most_bytes=MOST).id for _ in range(5)]
    other = snapshots.make(tenant, "sandbox.d/session-one", keep=3, most_bytes=MOST)
    assert [one.id for one in snapshots.list(tenant, "sandbox")] == ids[2:]
    assert [one.id for one in snapshots.list(tenant)] == [*ids[2:], other.id]
    snapshots.remove(tenant, other.id)
    for gone in (ids[0], other.id, "../sandbox", "x"):
        with pytest.raises(NotFound):
            snapshots.remove(tenant, gone)
        with pytest.raises(NotFound):
            snapshots.roll_back(tenant, gone, keep=3, most_bytes=MOST)


def test_what_cannot_be_made_whole_is_not_there(snapshots: Snapshots, tenant: Tenant, tmp_path: Path) -> None:
    (workspace(tmp_path) / "large").write_bytes(b"x" * 1_000_000)
    with pytest.raises(TooLarge):
        snapshots.make(tenant, "sandbox", keep=3, most_bytes=1000)
    assert snapshots.list(tenant) == []
    assert list((tmp_path / "tenants/acme" / PLACE).iterdir()) == []
    with pytest.raises(NotFound):
        snapshots.make(tenant, "sandbox.d/none", keep=3, most_bytes=MOST)


def test_a_kill_at_any_moment_leaves_no_half_of_one_and_a_whole_workspace(tenant: Tenant, tmp_path: Path) -> None:
    for number in range(200):
        (workspace(tmp_path) / f"f{number}").write_bytes(b"x" * 10_000)
    code = (
        "import sys; from pathlib import Path; from tests.fakes.tenants import make_tenant; "
        "from carrel.sandbox.snapshots import Snapshots; from carrel.clock import SystemClock; "
        "from carrel.agents.workspace import remove_workspace; tenant = make_tenant(Path(sys.argv[1])); "
        "s = Snapshots(clock=SystemClock(), removes=remove_workspace); print('on', flush=True)\n"
        "while True:\n    m = s.make(tenant, 'sandbox', keep=3, most_bytes=1 << 30)\n"
        "    s.roll_back(tenant, m.id, keep=3, most_bytes=1 << 30)"
    )
    repository = Path(__file__).resolve().parents[3]
    snapshots = Snapshots(clock=SystemClock(), removes=remove_workspace)
    for delay in (0.0, 0.003, 0.01, 0.02, 0.03, 0.05, 0.08, 0.13):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": f"{repository}:{repository / 'python'}"},
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert len(list(workspace(tmp_path).iterdir())) == 200
        snapshots.tidy(tenant)
        for one in snapshots.list(tenant):
            kept = tmp_path / "tenants/acme" / PLACE / one.id / "files"
            assert len(list(kept.iterdir())) == 200
        assert not list((tmp_path / "tenants/acme").glob(f"{PLACE}/.*"))
