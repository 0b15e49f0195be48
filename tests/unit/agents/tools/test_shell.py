"""`shell` says what the command said, and how it ended."""

import asyncio

import pytest

from carrel.agents.tools.shell import Shell, combined
from carrel.errors import SandboxUnavailable
from carrel.sandbox.protocol import Outcome
from tests.fakes.patience import eventually
from tests.unit.agents.tools.conftest import Rig


async def test_output_and_exit_code_come_back(rig: Rig) -> None:
    outcome = await rig.run(Shell(), command="echo out; cat")
    assert (outcome.content, outcome.is_error) == ("out\n[exit code 0]", False)
    _, job = rig.sandbox.jobs[0]
    assert job.argv == ("/bin/sh", "-c", "echo out; cat")
    assert (job.workspace, job.cwd, dict(job.env)) == ("sandbox", "/workspace", {})


async def test_errors_come_under_a_heading_of_their_own(rig: Rig) -> None:
    outcome = await rig.run(Shell(), command="printf out; echo err >&2; exit 3")
    assert (outcome.content, outcome.is_error) == ("out\n[standard error]\nerr\n[exit code 3]", True)


async def test_time_runs_out_and_the_most_is_the_tenants(rig: Rig) -> None:
    rig.limited(wall_seconds=2)
    outcome = await rig.run(Shell(), command="echo begun; sleep 600 & sleep 600", timeout_seconds=600)
    assert outcome.is_error
    assert "begun\n[killed: it was over its time of 2 s" in outcome.content
    assert rig.sandbox.jobs[0][1].limits.wall_seconds == 2
    chosen = await rig.run(Shell(), command="sleep 600", timeout_seconds=0.1)
    assert rig.sandbox.jobs[1][1].limits.wall_seconds == 0.1
    assert "the 0.1 s that the call gave it (timeout_seconds)" in chosen.content


async def test_output_is_shown_while_it_runs(rig: Rig) -> None:
    await rig.run(Shell(), command="echo one; echo two >&2")
    assert sorted(b"".join(rig.shown).split()) == [b"one", b"two"]


async def test_long_output_is_cut_and_kept(rig: Rig) -> None:
    outcome = await rig.run(Shell(), command="seq 1 20000")
    assert len(outcome.content) < 31_000
    assert "/workspace/.carrel/output/call-1-" in outcome.content
    assert outcome.content.endswith("20000\n[exit code 0]")


async def test_cancelling_it_kills_what_runs(rig: Rig) -> None:
    task = asyncio.ensure_future(rig.run(Shell(), command="sleep 600"))
    await eventually(lambda: rig.sandbox.running)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not rig.sandbox.running


async def test_a_missing_sandbox_is_an_error(rig: Rig) -> None:
    rig.sandbox.error = SandboxUnavailable("no bwrap")
    with pytest.raises(SandboxUnavailable):
        await rig.run(Shell(), command="true")


def test_one_stream_needs_no_heading() -> None:
    assert combined(Outcome(0, None, b"", b"err", 0, None, 0.0)) == b"err"
    assert combined(Outcome(0, None, b"out", b"", 0, None, 0.0)) == b"out"
