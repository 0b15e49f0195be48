import asyncio
import os
import resource
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from carrel import processes
from carrel.processes import Completed, ProcessFailed, run
from tests.fakes.patience import PATIENCE, soon

ENV = {"PATH": "/usr/bin:/bin"}
ME = os.getpid()
"""In the command lines of what is started here: the tests may be run more than once on one machine."""


async def test_a_program_runs_with_only_the_given_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARREL_SECRET_X", "hidden")
    done = await run(["env"], env={**ENV, "A": "1"}, timeout=PATIENCE)
    assert sorted(done.stdout.decode().split()) == ["A=1", "PATH=/usr/bin:/bin"]


async def test_standard_input_reaches_it() -> None:
    done = await run(["cat"], env=ENV, timeout=PATIENCE, stdin=b"x" * 200_000)
    assert len(done.stdout) == 200_000


async def test_a_program_over_its_time_is_killed_with_its_children() -> None:
    with pytest.raises(ProcessFailed, match="was over its"):
        await run(["sh", "-c", f"sleep 313.{ME} & sleep 313.{ME}"], env=ENV, timeout=0.2)
    left = await run(["sh", "-c", f"ps -eo args | grep -c '[s]leep 313.{ME}' || true"], env=ENV, timeout=PATIENCE)
    assert left.stdout.strip() == b"0"


async def test_cancelling_kills_it() -> None:
    task = asyncio.ensure_future(run(["sleep", f"317.{ME}"], env=ENV, timeout=PATIENCE))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left = await run(["sh", "-c", f"ps -eo args | grep -c '[s]leep 317.{ME}' || true"], env=ENV, timeout=PATIENCE)
    assert left.stdout.strip() == b"0"


async def test_cancelling_while_it_starts_kills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, start = threading.Event(), threading.Event(), processes._start

    def slowly(*arguments: Any) -> "subprocess.Popen[bytes]":
        started = start(*arguments)
        begun.set()
        go_on.wait(PATIENCE)
        return started

    monkeypatch.setattr(processes, "_start", slowly)
    task = asyncio.ensure_future(run(["sleep", f"347.{ME}"], env=ENV, timeout=PATIENCE))
    await asyncio.to_thread(begun.wait, PATIENCE)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    monkeypatch.undo()
    left = await run(["sh", "-c", f"ps -eo args | grep -c '[s]leep 347.{ME}' || true"], env=ENV, timeout=PATIENCE)
    assert left.stdout.strip() == b"0"


async def test_what_must_end_by_itself_is_told_to_first() -> None:
    with pytest.raises(ProcessFailed, match="was over its"):
        # The child leads a group of its own: only its parent knows of it.
        await run(
            ["bash", "-c", f"set -m; sleep 319.{ME} & trap 'kill %1; exit' TERM; wait"], env=ENV, timeout=1, gentle=20
        )
    left = await run(["sh", "-c", f"ps -eo args | grep -c '[s]leep 319.{ME}' || true"], env=ENV, timeout=PATIENCE)
    assert left.stdout.strip() == b"0"


async def test_who_does_not_listen_is_killed() -> None:
    task = asyncio.ensure_future(
        run(["sh", "-c", f"trap '' TERM; while :; do sleep 0.1 {ME}; done"], env=ENV, timeout=PATIENCE, gentle=0.3)
    )
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left = await run(["sh", "-c", f"ps -eo args | grep -c '[s]leep 0.1 {ME}' || true"], env=ENV, timeout=PATIENCE)
    assert left.stdout.strip() == b"0"


async def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProcessFailed, match="no-such-program"):
        await run(["no-such-program"], env=ENV, timeout=5)


def test_check_shows_the_end_of_standard_error() -> None:
    with pytest.raises(ProcessFailed, match="git push failed with status 3: boom"):
        Completed(3, b"", b"boom\n").check("git push")
    assert Completed(0, b"out", b"").check("x").stdout == b"out"


def test_this_process_is_not_its_childs_group() -> None:
    assert os.getpgid(0) == os.getpgrp()


async def test_descendants_die_whatever_group_they_have_gone_to() -> None:
    with pytest.raises(ProcessFailed, match="was over its"):
        await run(
            ["sh", "-c", f"trap '' TERM; setsid sh -c 'sleep 337.{ME}; :' & while :; do wait; done"],
            env=ENV, timeout=1, gentle=0.2,
        )  # fmt: skip
    left = await run(["sh", "-c", f"ps -eo args | grep -c '[s]leep 337.{ME}' || true"], env=ENV, timeout=PATIENCE)
    assert left.stdout.strip() == b"0"


async def test_limits_hold_in_the_program() -> None:
    # It waits for its input, which is written after the limits are set.
    done = await run(
        ["sh", "-c", "read -r _; ulimit -t; ulimit -v"], env=ENV, timeout=PATIENCE, stdin=b"\n",
        limits={resource.RLIMIT_CPU: 77, resource.RLIMIT_AS: 1 << 30},
    )  # fmt: skip
    assert done.stdout.split() == [b"77", str(1 << 20).encode()]


async def test_standard_error_is_handed_on_as_it_comes(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    pieces: list[bytes] = []
    first = asyncio.Event()

    def hear(piece: bytes) -> None:
        pieces.append(piece)
        first.set()

    task = asyncio.ensure_future(
        run(
            ["sh", "-c", f"echo one >&2; read -r _ < {gate}; echo two >&2; echo out"],
            env=ENV, timeout=PATIENCE, on_error=hear,
        )
    )  # fmt: skip
    await soon(first.wait())
    assert not task.done()
    await soon(asyncio.to_thread(gate.write_text, "go on\n"))
    done = await task
    assert (done.stdout, done.stderr, b"".join(pieces)) == (b"out\n", b"", b"one\ntwo\n")


async def test_a_stray_child_that_holds_standard_error_is_not_waited_for() -> None:
    pieces: list[bytes] = []
    done = await run(
        ["sh", "-c", "setsid sleep 341.9 < /dev/null > /dev/null & echo $!; echo said >&2"],
        env=ENV, timeout=PATIENCE, on_error=pieces.append,
    )  # fmt: skip
    os.kill(int(done.stdout), signal.SIGKILL)
    assert pieces == [b"said\n"]


async def test_what_works_behind_steps_back() -> None:
    told = ["sh", "-c", "read go; ps -o ni= -p $$"]
    assert (await run(told, env=ENV, timeout=PATIENCE, stdin=b"go\n", behind=True)).stdout.split() == [b"10"]
