"""The fakes that agents are tested with keep the promises of what they stand for."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from carrel.agents.streams import closing
from carrel.declare.tenant import SandboxConfig
from carrel.errors import UpstreamError
from carrel.sandbox.protocol import Job, Outcome, Sandbox
from carrel.tenancy.handle import Tenant
from carrel.wire.conversation import Finished, Message, ModelRequest, Text, TextDelta, ThinkingDelta
from tests.fakes.agents import call
from tests.fakes.model import Play, ScriptedProvider
from tests.fakes.sandbox import HOST, FakeSandbox
from tests.fakes.tenants import make_tenant

REQUEST = ModelRequest("m", (Message("user", (Text("hi"),)),))


async def test_a_model_streams_pieces_and_ends_in_one_finished() -> None:
    provider = ScriptedProvider([Play("hello there", thinking="hm", calls=(call("shell"),))])
    events = [event async for event in provider.stream(REQUEST)]
    assert [type(e) for e in events] == [ThinkingDelta, TextDelta, TextDelta, TextDelta, Finished]
    end = events[-1]
    assert isinstance(end, Finished)
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "hello there"
    assert (end.stop, end.message.role) == ("tool_calls", "assistant")


async def test_a_model_that_is_closed_early_is_closed() -> None:
    provider = ScriptedProvider([Play("hello there", hold=True, error_after=1)])
    async with closing(provider.stream(REQUEST)) as events:
        await anext(events)
        assert provider.open_calls == 1
    assert provider.open_calls == 0


async def test_a_model_fails_with_our_errors() -> None:
    provider = ScriptedProvider([Play(error=UpstreamError("no"))])
    with pytest.raises(UpstreamError):
        _ = [event async for event in provider.stream(REQUEST)]


@pytest.fixture
async def tenant(tmp_path: Path) -> AsyncIterator[Tenant]:
    made = make_tenant(tmp_path)
    made.root.directory("sandbox", create=True).close()
    yield made
    made.root.close()


async def run(tenant: Tenant, command: str, **limits: float) -> Outcome:
    runner: Sandbox = FakeSandbox()
    declared = SandboxConfig().model_copy(update=limits)
    return await runner.run(tenant, Job(("/bin/sh", "-c", command), declared, HOST, stdin=b"fed"))


async def test_a_runner_gives_output_codes_and_signals(tenant: Tenant) -> None:
    done = await run(tenant, "cat; echo err >&2; exit 3")
    assert (done.exit_code, done.signal, done.stdout, done.stderr, done.killed) == (3, None, b"fed", b"err\n", None)
    done = await run(tenant, "kill -SEGV $$")
    assert (done.exit_code, done.signal) == (None, 11)


async def test_a_runner_keeps_so_much_and_kills_in_time(tenant: Tenant) -> None:
    done = await run(tenant, "seq 1 1000", output_bytes=100)
    assert (len(done.stdout), done.output_dropped) == (100, 3893 - 100)
    began = time.monotonic()
    done = await run(tenant, "(sleep 60 & sleep 60); echo late", wall_seconds=0.2)
    assert done.killed == "wall_clock"
    assert time.monotonic() - began < 30


async def test_a_runner_shows_output_and_kills_on_cancellation(tenant: Tenant) -> None:
    runner, shown = FakeSandbox(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def show(piece: bytes) -> None:
        loop.call_soon_threadsafe(shown.set)

    job = Job(("/bin/sh", "-c", "echo begun; sleep 60"), SandboxConfig(), HOST)
    task = asyncio.ensure_future(runner.run(tenant, job, on_output=show))
    await asyncio.wait_for(shown.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not runner.running
