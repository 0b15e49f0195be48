"""Berths: a network made beforehand, with a gate in it that is reached from inside and answered from outside."""

import os
import socket
import time
from pathlib import Path

from carrel.sandbox.launcher import GATE_PORT
from carrel.sandbox.launcher.berths import READY
from tests.fakes.launcher import LauncherProcess, ended
from tests.fakes.patience import PATIENCE, until

ASK = f"exec 3<>/dev/tcp/127.0.0.1/{GATE_PORT} && cat <&3 | grep -q {{}}"


def served(gate: socket.socket, text: bytes) -> None:
    gate.settimeout(PATIENCE)
    connection, _ = gate.accept()
    connection.sendall(text)
    connection.close()


def test_what_is_inside_reaches_its_gate_and_no_other(started: LauncherProcess) -> None:
    started.run(1, "/usr/bin/bash", "-c", ASK.format("one"), gate=True)
    one = started.gate(1)
    started.run(2, "/usr/bin/bash", "-c", ASK.format("two"), gate=True)
    two = started.gate(2)
    served(two, b"two")
    served(one, b"one")
    told = {answer["id"]: ended(answer)["exit_code"] for answer in (started.answer() for _ in range(2))}
    assert told == {1: 0, 2: 0}


def test_without_a_gate_nothing_listens(started: LauncherProcess) -> None:
    started.run(1, "/usr/bin/bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{GATE_PORT}")
    assert ended(started.answer())["exit_code"] == 1
    assert not started.gates


def test_a_few_wait_and_more_are_made_where_more_are_wanted(started: LauncherProcess) -> None:
    for number in range(3 * READY):
        started.run(number, "/usr/bin/true")
    assert {ended(started.answer())["exit_code"] for _ in range(3 * READY)} == {0}

    def settled() -> bool:
        before = children(started)
        time.sleep(0.1)
        return len(before) == READY and children(started) == before

    assert until(settled)


def test_one_that_died_waiting_is_no_loss(started: LauncherProcess) -> None:
    started.run(1, "/usr/bin/true")
    started.answer()
    assert until(lambda: len(children(started)) == READY)
    for pid in children(started):
        os.kill(pid, 9)
    assert until(lambda: not children(started))
    started.run(2, "/usr/bin/true")
    assert ended(started.answer())["exit_code"] == 0


def test_those_that_wait_end_with_the_launcher(started: LauncherProcess) -> None:
    started.run(1, "/usr/bin/true")
    started.answer()
    assert until(lambda: len(children(started)) == READY)
    waiting = children(started)
    started.process.kill()
    started.process.wait()
    assert until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in waiting))


def children(started: LauncherProcess) -> list[int]:
    pid = started.process.pid
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
