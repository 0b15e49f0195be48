"""Snapshots: whole or not there, and the way back in one step."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.agents.workspace import remove_workspace
from carrel.clock import SystemClock
from carrel.declare.quotas import Quotas
from carrel.errors import DiskQuotaExceeded, NotFound, StorageFull, TooLarge
from carrel.sandbox import snapshots as module
from carrel.sandbox.disk import Room
from carrel.sandbox.snapshots import PLACE, Snapshots
from carrel.sandbox.tree import Limits
from carrel.tenancy.handle import Tenant
from tests.fakes.tenants import make_tenant

MOST = 1 << 30
ALL = Limits(MOST)


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    made = make_tenant(tmp_path)
    made.root.directory("sandbox", create=True).close()
    yield made
    made.root.close()


@pytest.fixture
def snapshots() -> Snapshots:
    return Snapshots(clock=SystemClock(), removes=remove_workspace)


def kill_after(delay: float | None, code: str, *words: object) -> None:
    """Run ``code`` in a process of its own, and kill that so long after it said that it is on; without, when done."""
    repository = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{repository}:{repository / 'python'}"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    if delay is None:
        assert process.stdout.readline() == "done\n"
    else:
        time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def workspace(tmp_path: Path) -> Path:
    return tmp_path / "tenants/acme/sandbox"


def test_there_and_back_and_back_again(snapshots: Snapshots, tenant: Tenant, tmp_path: Path) -> None:
    file = workspace(tmp_path) / "file"
    file.write_text("good")
    made = snapshots.make(tenant, "sandbox", ALL, label="before", keep=5)
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
    ids = [snapshots.make(tenant, "sandbox", ALL, keep=3).id for _ in range(5)]
    other = snapshots.make(tenant, "sandbox.d/session-one", ALL, keep=3)
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
        snapshots.make(tenant, "sandbox", Limits(1000), keep=3)
    assert snapshots.list(tenant) == []
    assert list((tmp_path / "tenants/acme" / PLACE).iterdir()) == []
    with pytest.raises(NotFound):
        snapshots.make(tenant, "sandbox.d/none", ALL, keep=3)


def test_a_kill_at_any_moment_leaves_no_half_of_one_and_a_whole_workspace(tenant: Tenant, tmp_path: Path) -> None:
    for number in range(200):
        (workspace(tmp_path) / f"f{number}").write_bytes(b"x" * 10_000)
    code = (
        "import sys; from pathlib import Path; from tests.fakes.tenants import make_tenant; "
        "from carrel.sandbox.snapshots import Snapshots; from carrel.sandbox.tree import Limits; "
        "from carrel.clock import SystemClock; "
        "from carrel.agents.workspace import remove_workspace; tenant = make_tenant(Path(sys.argv[1])); "
        "s = Snapshots(clock=SystemClock(), removes=remove_workspace); print('on', flush=True)\n"
        "while True:\n    m = s.make(tenant, 'sandbox', Limits(1 << 30), keep=3)\n"
        "    s.roll_back(tenant, m.id, keep=3, most_bytes=1 << 30)"
    )
    snapshots = Snapshots(clock=SystemClock(), removes=remove_workspace)
    for delay in (0.0, 0.003, 0.01, 0.02, 0.03, 0.05, 0.08, 0.13):
        kill_after(delay, code, tmp_path)
        assert len(list(workspace(tmp_path).iterdir())) == 200
        snapshots.tidy(tenant)
        for one in snapshots.list(tenant):
            kept = tmp_path / "tenants/acme" / PLACE / one.id / "files"
            assert len(list(kept.iterdir())) == 200
        assert not list((tmp_path / "tenants/acme").glob(f"{PLACE}/.*"))


def test_a_kill_on_the_way_back_loses_nothing_of_what_was_there(
    snapshots: Snapshots, tenant: Tenant, tmp_path: Path
) -> None:
    for number in range(100):
        (workspace(tmp_path) / f"f{number}").write_text("good")
    good = snapshots.make(tenant, "sandbox", ALL, keep=50)
    code = (
        "import sys; from pathlib import Path; from tests.fakes.tenants import make_tenant; "
        "from carrel.sandbox.snapshots import Snapshots; from carrel.clock import SystemClock; "
        "from carrel.agents.workspace import remove_workspace; tenant = make_tenant(Path(sys.argv[1])); "
        "s = Snapshots(clock=SystemClock(), removes=remove_workspace); print('on', flush=True)\n"
        "s.roll_back(tenant, sys.argv[2], keep=50, most_bytes=1 << 30); print('done', flush=True)\n"
        "import time; time.sleep(60)"
    )
    for step, delay in enumerate((0.0, 0.004, 0.008, 0.012, 0.016, 0.02, 0.03, 0.05, None)):
        (workspace(tmp_path) / f"precious-{step}").write_text("made since")
        kill_after(delay, code, tmp_path, good.id)
        snapshots.tidy(tenant)
        places = [workspace(tmp_path), *(tmp_path / "tenants/acme" / PLACE).glob("*/files")]
        for number in range(step + 1):
            assert any((place / f"precious-{number}").exists() for place in places), (number, delay)
        assert {(workspace(tmp_path) / f"f{number}").read_text() for number in range(100)} == {"good"}
    assert not (workspace(tmp_path) / "precious-8").exists()


def test_those_that_a_message_makes_are_counted_apart(snapshots: Snapshots, tenant: Tenant, tmp_path: Path) -> None:
    asked = [snapshots.make(tenant, "sandbox", ALL, keep=2).id for _ in range(2)]
    made = [snapshots.make(tenant, "sandbox", ALL, keep=3, why="before_turn").id for _ in range(5)]
    assert [one.id for one in snapshots.list(tenant)] == [*asked, *made[2:]]
    (workspace(tmp_path) / "junk").write_text("x")
    _, before = snapshots.roll_back(tenant, made[-1], keep=2, most_bytes=MOST)
    assert [(one.id, one.why) for one in snapshots.list(tenant)] == [
        (asked[1], "asked"), *((one, "before_turn") for one in made[2:]), (before.id, "rollback")
    ]  # fmt: skip
    snapshots.forget(tenant, "sandbox")
    assert snapshots.list(tenant) == []


def test_whether_anything_changed_is_told_by_what_the_kernel_notes(
    snapshots: Snapshots, tenant: Tenant, tmp_path: Path
) -> None:
    def changed() -> bool:
        return snapshots.changed(tenant, "sandbox", ALL)

    assert not changed(), "there is nothing to lose"
    assert not snapshots.changed(tenant, "sandbox.d/none", ALL)
    (workspace(tmp_path) / "deep").mkdir()
    file = workspace(tmp_path) / "deep/file"
    file.write_text("one")
    assert changed()
    snapshots.make(tenant, "sandbox", ALL, keep=9)
    assert not changed()
    for change in (
        lambda: file.write_text("two"),
        lambda: os.utime(file, (0, 0)),
        lambda: file.chmod(0o600),
        lambda: file.rename(file.with_name("other")),
        lambda: file.with_name("other").unlink(),
    ):
        time.sleep(0.02)
        change()
        assert changed()
        snapshots.make(tenant, "sandbox", ALL, keep=9)
        assert not changed()
    with pytest.raises(TooLarge):
        snapshots.changed(tenant, "sandbox", Limits(MOST, most_entries=0))


def test_what_is_being_made_is_not_tidied_away(snapshots: Snapshots, tenant: Tenant, tmp_path: Path) -> None:
    (workspace(tmp_path) / "file").write_text("x")
    seen: list[int] = []

    def going() -> bool:
        snapshots.tidy(tenant)
        seen.append(len(list((tmp_path / "tenants/acme").glob(f"{PLACE}/.*"))))
        return True

    made = snapshots.make(tenant, "sandbox", Limits(MOST, going=going), keep=3)
    assert seen[-1] == 1
    assert [one.id for one in snapshots.list(tenant)] == [made.id]


def test_what_messages_make_is_bounded_over_all_workspaces(
    snapshots: Snapshots, tenant: Tenant, tmp_path: Path
) -> None:
    """A workspace that is filled, copied and emptied again leaves more behind than it ever holds."""
    asked = snapshots.make(tenant, "sandbox", ALL, keep=1)
    together, made = Room(5 * 8192, 1000), []
    for number in range(8):
        place = f"sandbox.d/session-{number}"
        tenant.root.directory(place, create=True).close()
        (tmp_path / "tenants/acme" / place / "file").write_bytes(b"x" * 8192)
        made.append(snapshots.make(tenant, place, ALL, keep=3, why="before_turn", together=together).id)
    assert [one.id for one in snapshots.list(tenant)] == [asked.id, *made[3:]]
    (workspace(tmp_path) / "large").write_bytes(b"x" * 100_000)
    large = snapshots.make(tenant, "sandbox", ALL, keep=3, why="before_turn", together=together)
    assert [one.id for one in snapshots.list(tenant)] == [asked.id, large.id], "the newest stays"
    few = Room(1 << 30, 1)
    small = snapshots.make(tenant, "sandbox.d/session-0", ALL, keep=3, why="before_turn", together=few)
    assert [one.id for one in snapshots.list(tenant)] == [asked.id, small.id]


def test_S10_03_what_is_kept_free_of_the_disk_is_not_taken(
    snapshots: Snapshots, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace(tmp_path) / "file").write_bytes(b"x" * 100_000)
    for short in (Room(0, 100), Room(1 << 30, 0)):
        monkeypatch.setattr(module, "room_at", lambda _, short=short: short)
        with pytest.raises(StorageFull, match="nearly full"):
            snapshots.make(tenant, "sandbox", ALL, keep=3)
    monkeypatch.setattr(module, "room_at", lambda _: Room(1000, 100))
    with contextlib.suppress(TooLarge):
        snapshots.make(tenant, "sandbox", ALL, keep=3)
        assert snapshots.list(tenant)[0].bytes > 1000, "only where its content is shared"
    monkeypatch.setattr(module, "room_at", lambda _: Room(1 << 30, 100))
    assert snapshots.make(tenant, "sandbox", ALL, keep=3).files == 1


def with_quota(tenant: Tenant, most: int) -> Tenant:
    quotas = Quotas.model_validate({"snapshots_bytes": most})
    return replace(tenant, config=tenant.config.model_copy(update={"quotas": quotas}))


def test_those_of_a_tenant_take_no_more_than_its_quota(snapshots: Snapshots, tenant: Tenant, tmp_path: Path) -> None:
    (workspace(tmp_path) / "file").write_bytes(os.urandom(100_000))
    tenant = with_quota(tenant, 350_000)
    asked = snapshots.make(tenant, "sandbox", ALL, keep=9)
    assert asked.bytes >= 100_000
    old, new = (snapshots.make(tenant, "sandbox", ALL, keep=9, why="before_turn") for _ in range(2))
    second = snapshots.make(tenant, "sandbox", ALL, keep=9)
    assert snapshots.list(tenant) == [asked, new, second], "the oldest that a message made went for it"
    third = snapshots.make(tenant, "sandbox", ALL, keep=9)
    with pytest.raises(DiskQuotaExceeded, match=r"350000 \(quotas.snapshots_bytes\).*--remove"):
        snapshots.make(tenant, "sandbox", ALL, keep=9)
    with pytest.raises(DiskQuotaExceeded):
        snapshots.make(tenant, "sandbox", ALL, keep=9, why="before_turn")
    assert snapshots.list(tenant) == [asked, second, third], "what was refused took nothing with it"
    assert old not in snapshots.list(tenant)
    with pytest.raises(TooLarge, match=r"1000 bytes.*\(quotas.snapshots_bytes\)"):
        snapshots.make(with_quota(tenant, 1000), "sandbox", ALL, keep=9)


def test_a_way_back_is_never_refused_and_counts(snapshots: Snapshots, tenant: Tenant, tmp_path: Path) -> None:
    (workspace(tmp_path) / "file").write_bytes(os.urandom(100_000))
    tenant = with_quota(tenant, 150_000)
    made = snapshots.make(tenant, "sandbox", ALL, keep=9)
    _, before = snapshots.roll_back(tenant, made.id, keep=9, most_bytes=MOST)
    assert (before.files, before.bytes) == (1, made.bytes)
    assert snapshots.list(tenant) == [made, before]
    with pytest.raises(DiskQuotaExceeded):
        snapshots.make(tenant, "sandbox", ALL, keep=9)
