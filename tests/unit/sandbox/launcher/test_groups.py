"""Groups of a launcher, in a real cgroup v2 hierarchy: who is in which, what is killed, what is left."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.sandbox.launcher import kernel
from carrel.sandbox.launcher.groups import Group
from tests.fakes.groups import delegated, give, subtree
from tests.fakes.launcher import LauncherProcess, ended, launcher_process, running
from tests.fakes.patience import until


@pytest.fixture
def path() -> Iterator[Path]:
    """A subtree that is ready for sandboxes."""
    with delegated() as groups:
        yield Path(groups.path)


@pytest.fixture
def grouped(path: Path) -> Iterator[LauncherProcess]:
    """A launcher that puts what it starts into groups."""
    with launcher_process(str(path)) as process:
        yield process


def groups_of(path: Path) -> list[str]:
    tenants = path / "tenants"
    # `os.walk` passes over what goes while it walks.
    return sorted(str(Path(top, name).relative_to(tenants)) for top, names, _ in os.walk(tenants) for name in names)


def pids_in(path: Path) -> list[str]:
    try:
        return (path / "cgroup.procs").read_text().split()
    except OSError:
        return []


def keep(path: Path, grouped: LauncherProcess) -> None:
    """Start sandbox 1, which commands are sent into, and wait until its own command runs."""
    grouped.run(1, "/usr/bin/sleep", "4000", wall=None)
    assert until(lambda: len(pids_in(path / "tenants/acme/s-1/main")) == 3)


def test_the_launcher_is_in_one_and_what_it_starts_is_in_anothers(path: Path, grouped: LauncherProcess) -> None:
    assert grouped.greeting["controllers"] is not None
    assert str(grouped.process.pid) in pids_in(path / "gateway")
    grouped.run(1, "/usr/bin/sleep", "4000")
    assert until(lambda: groups_of(path) == ["acme", "acme/s-1"])
    # bubblewrap, the first process inside, and the command.
    assert until(lambda: len(pids_in(path / "tenants/acme/s-1")) == 3)
    grouped.order({"do": "kill", "id": 1}, [])
    assert ended(grouped.answer())["killed"] == "cancelled"
    assert until(lambda: groups_of(path) == [])


def test_a_command_sent_in_is_killed_with_its_double_forks_and_a_server_of_another_stays(
    path: Path, grouped: LauncherProcess
) -> None:
    mark = f"{os.getpid()}.4241"
    keep(path, grouped)
    grouped.enter(2, 1, "/usr/bin/bash", "-c", f"setsid sleep {mark}2 >/dev/null 2>&1 & disown").text()
    assert ended(grouped.answer())["exit_code"] == 0
    assert groups_of(path) == ["acme", "acme/s-1", "acme/s-1/c-2", "acme/s-1/main"]
    # What it began is given up to init, and by its time could be anybody's: only the group tells whose it is.
    bomb = f"(setsid sh -c 'sleep {mark}3 & wait' &); (sleep {mark}4 &); sleep {mark}5"
    grouped.enter(3, 1, "/usr/bin/bash", "-c", bomb, wall=0.5).text()
    assert ended(grouped.answer())["killed"] == "wall_clock"
    assert not any(running(f"{mark}{number}") for number in (3, 4, 5))
    assert running(f"{mark}2")
    assert until(lambda: "acme/s-1/c-3" not in groups_of(path))
    grouped.order({"do": "kill", "id": 1}, [])
    grouped.answer()
    assert until(lambda: groups_of(path) == [])
    assert not running(mark)


def test_processor_time_is_that_of_the_whole_tree(grouped: LauncherProcess) -> None:
    spin = "while :; do :; done"
    told = f"({spin}) & ({spin}) & ({spin}) & {spin}"
    grouped.run(1, "/usr/bin/bash", "-c", told, cpu_seconds=1)
    answer = ended(grouped.answer())
    assert answer["killed"] == "cpu"
    assert answer["cpu_seconds"] >= 1
    grouped.run(2, "/usr/bin/true", cpu_seconds=1)
    assert ended(grouped.answer())["killed"] is None


def test_a_command_sent_in_has_processor_time_of_its_own(path: Path, grouped: LauncherProcess) -> None:
    keep(path, grouped)
    spin = "while :; do :; done"
    grouped.enter(2, 1, "/usr/bin/bash", "-c", f"({spin}) & ({spin}) & {spin}", cpu_seconds=1).text()
    assert ended(grouped.answer())["killed"] == "cpu"
    assert len(pids_in(path / "tenants/acme/s-1/main")) == 3, "what else is in the sandbox goes on"


def test_leftovers_of_a_lost_launcher_are_killed_by_the_next(path: Path) -> None:
    mark = f"{os.getpid()}.4440"
    left = Group(f"{path}/tenants/acme")
    child = kernel.fork_into(left.fd)
    if child == 0:
        os.execv("/usr/bin/sleep", ["sleep", mark])  # noqa: S606 - the process that is left over
    assert until(lambda: running(mark))
    with launcher_process(str(path)):
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
        assert until(lambda: groups_of(path) == [])
    left.close()


def test_a_fork_into_a_group_is_in_it_from_the_start(path: Path) -> None:
    group = Group(f"{path}/tenants/x")
    read, write = os.pipe()
    child = kernel.fork_into(group.fd)
    if child == 0:
        os.write(write, Path("/proc/self/cgroup").read_bytes())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 10_000).decode().splitlines()[-1].endswith("/tenants/x")
    assert not group.populated
    for fd in (read, write):
        os.close(fd)
    group.close()
    with pytest.raises(OSError, match="clone3"):
        kernel.fork_into(0)


def test_what_its_uid_may_not_divide_is_told_and_sandboxes_start_without() -> None:
    with subtree() as path, launcher_process(str(path / "nothing")) as process:
        assert process.greeting["controllers"] is None
        assert "No such file" in process.greeting["no_groups"]
        process.run(1, "/usr/bin/true")
        assert ended(process.answer())["exit_code"] == 0


def test_where_no_group_can_be_made_nothing_runs(path: Path, grouped: LauncherProcess) -> None:
    os.chown(path / "tenants", 0, 0)
    grouped.run(1, "/usr/bin/true")
    assert "Permission denied" in str(grouped.answer()["failed"])
    give(path / "tenants")
    grouped.run(2, "/usr/bin/true")
    assert ended(grouped.answer())["exit_code"] == 0
