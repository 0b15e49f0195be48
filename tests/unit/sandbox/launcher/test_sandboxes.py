"""Sandboxes of a launcher by itself: what it holds, and what it does when its gateway is gone."""

import json
import os
import socket
import subprocess
from pathlib import Path

from carrel.sandbox.launcher import BLOCK_FD, STATUS_FD, sandboxes
from tests.fakes.launcher import MINIMAL, LauncherProcess, ended, running
from tests.fakes.patience import until
from tests.fakes.sandboxed import LAUNCH_UID


def test_it_holds_its_socket_and_nothing_of_who_started_it(started: LauncherProcess) -> None:
    process = Path(f"/proc/{started.process.pid}")
    assert (process / "environ").read_bytes() == b""
    kinds = {str(fd.readlink()).split(":")[0] for fd in (process / "fd").iterdir() if int(fd.name) > 2}
    assert kinds <= {"socket", "pipe", "anon_inode", "/memfd"}
    uids = next(line.split()[1:] for line in (process / "status").read_text().splitlines() if line.startswith("Uid"))
    assert "0" not in uids


def test_several_run_at_once_and_each_is_told(started: LauncherProcess) -> None:
    started.run(1, "/usr/bin/sleep", "0.3")
    started.run(2, "/usr/bin/false")
    started.run(3, "/usr/bin/true")
    told = {answer["id"]: ended(answer)["exit_code"] for answer in (started.answer() for _ in range(3))}
    assert told == {1: 0, 2: 1, 3: 0}


def test_it_keeps_the_time_itself(started: LauncherProcess) -> None:
    mark = f"{os.getpid()}.9190"
    started.run(1, "/usr/bin/sleep", mark, wall=0.3)
    assert ended(started.answer())["killed"] == "wall_clock"
    assert not running(mark)


def test_what_its_gateway_left_running_dies_with_it(started: LauncherProcess) -> None:
    mark = f"{os.getpid()}.9290"
    started.run(1, "/usr/bin/sleep", mark)
    assert until(lambda: running(mark))
    started.socket.close()
    assert started.process.wait(30) == 0
    assert until(lambda: not running(mark))


def test_a_gateway_that_goes_at_once_leaves_nobody_half_started(started: LauncherProcess) -> None:
    mark = f"{os.getpid()}.9390"
    for number in range(12):
        started.run(number, "/usr/bin/sleep", mark)
    started.socket.close()
    assert started.process.wait(20) == 0
    assert not running(mark)


def test_S3_06_nothing_begins_before_its_limits_are_set_however_long_that_takes() -> None:
    """bwrap as the launcher starts it: until it is let go, who becomes the command stands and has made nobody."""
    ours, theirs = socket.socketpair()
    placed = f'exec bwrap "$@" {STATUS_FD}<&{theirs.fileno()} {BLOCK_FD}<&{theirs.fileno()} {theirs.fileno()}<&-'
    with ours, theirs:
        process = subprocess.Popen(
            ["/bin/bash", "-c", placed, "bwrap", *MINIMAL, "--", "/usr/bin/echo", "begun"],
            pass_fds=(theirs.fileno(),), stdout=subprocess.PIPE, user=LAUNCH_UID, group=LAUNCH_UID, cwd="/",
        )  # fmt: skip
        theirs.close()
        inner = Path("/proc", str(json.loads(ours.makefile().readline())["child-pid"]))

        def waits() -> bool:
            words = (inner / "syscall").read_text().split()
            return len(words) > 1 and words[1] == hex(BLOCK_FD)

        assert until(waits)
        assert (inner / "task" / inner.name / "children").read_text() == ""
        ours.send(b"1")
        assert process.communicate()[0] == b"begun\n"
        assert process.returncode == 0


def test_a_limit_that_cannot_be_set_runs_nothing(started: LauncherProcess) -> None:
    started.run(1, "/usr/bin/true", rlimits={"NICE": [10, 10], "RTPRIO": [99, 99]})
    answer = started.answer()
    assert ended(answer)["exit_code"] == 0, "what is over the launcher's own hard limit becomes that"
    started.run(2, "/usr/bin/true", rlimits={"NOFILE": [64, 32]})
    assert "could not be" in str(started.answer()["failed"])


def test_it_serves_on_after_an_order_that_makes_no_sense(started: LauncherProcess) -> None:
    started.order({"do": "run", "id": 5}, [])
    assert "failed" in started.answer()
    started.run(6, "/usr/bin/true")
    assert ended(started.answer())["exit_code"] == 0


def test_files_in_memory_are_counted_and_none_of_the_launchers_own() -> None:
    assert sandboxes.held_in_files(os.getpid()) == 0, "it has no root of its own"
    assert sandboxes.held_in_files(None) == 0
