"""Tools run side by side, are told as they happen, and are on the disk before they are told to be over."""

import asyncio
import time
from pathlib import Path
from typing import Any

from carrel.agents.events import ToolFinished, ToolOutput, ToolStarted
from carrel.agents.streams import closing
from carrel.agents.tool_round import SIDE_BY_SIDE, UNREAD_EVENTS
from carrel.agents.tools.protocol import ToolOutcome, ToolSetting
from carrel.agents.tools.toolbox import Toolbox
from carrel.declare.tenant import SandboxConfig, ToolName
from carrel.errors import SandboxBusy, SandboxUnavailable
from carrel.wire.conversation import ToolResult, ToolSpec
from tests.fakes.agents import answer, call, house, scripted
from tests.fakes.model import Play
from tests.fakes.patience import eventually
from tests.fakes.sandbox import FakeSandbox


def shells(*commands: str) -> Play:
    return Play(calls=tuple(call("shell", f"c{n}", command=command) for n, command in enumerate(commands)))


async def test_calls_run_side_by_side_and_their_results_keep_the_order(tmp_path: Path) -> None:
    # Each waits for what the next one makes: one after the other they would never end.
    provider = scripted(shells("while [ ! -e b ]; do sleep 0.01; done; echo first", "touch b; echo second"), Play("ok"))
    async with house(tmp_path, provider) as home:
        events = await home.say("go")
        finished = [event.id for event in events if isinstance(event, ToolFinished)]
        assert sorted(finished) == ["c0", "c1"]
        results = provider.requests[1].messages[-1].content
        assert results == (ToolResult("c0", "first\n[exit code 0]"), ToolResult("c1", "second\n[exit code 0]"))
        assert answer(events).tool_calls == 2


async def test_a_result_is_on_the_disk_before_it_is_told(tmp_path: Path) -> None:
    async with house(tmp_path, scripted(shells("echo hi"), Play("ok"))) as home:
        async for event in home.agents.run(home.tenant, home.snapshot, home.turn("go")):
            if isinstance(event, ToolStarted):
                assert [line["type"] for line in home.lines()][-2:] == ["model_call", "tool_call"]
            if isinstance(event, ToolFinished):
                last = home.lines()[-1]
                assert (last["type"], last["content"]) == ("tool_result", "hi\n[exit code 0]")


async def test_output_is_shown_as_it_comes_and_safe(tmp_path: Path) -> None:
    async with house(
        tmp_path, scripted(shells("printf 'gr\\303'; sleep 0.05; printf '\\274n\\033[0m'"), Play("ok"))
    ) as home:
        events = await home.say("go")
        assert "".join(e.text for e in events if isinstance(e, ToolOutput)) == "grün\\x1b[0m"


async def test_who_reads_slowly_misses_output_and_holds_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, scripted(shells("seq 1 2000000 | tail -c 8000000"), Play("ok"))) as home:
        async with closing(home.agents.run(home.tenant, home.snapshot, home.turn("go"))) as stream:
            await anext(stream)
            await eventually(lambda: home.sandbox.jobs and not home.sandbox.running)
            shown = [event async for event in stream if isinstance(event, ToolOutput)]
        assert len(shown) <= 2 * UNREAD_EVENTS
        assert len(home.lines()[-1]) > 0


async def test_a_failure_is_the_models_to_read(tmp_path: Path) -> None:
    provider = scripted(
        Play(calls=(call("nothing", "c0"), call("shell", "c1", command=7), call("file_read", "c2", path="../x"))),
        Play("ok"),
    )
    async with house(tmp_path, provider) as home:
        home.sandbox.error = SandboxUnavailable("no bubblewrap")
        assert answer(await home.say("go")).text == "ok"
        results = provider.requests[1].messages[-1].content
        assert all(isinstance(r, ToolResult) and r.is_error for r in results)


async def test_a_fault_in_a_tool_is_told_without_its_insides(tmp_path: Path) -> None:
    class Broken:
        name: ToolName = "shell"
        annotation = None
        spec = ToolSpec("shell", "Breaks.", {"type": "object", "additionalProperties": False, "properties": {}})

        async def run(self, arguments: dict[str, Any], setting: ToolSetting) -> ToolOutcome:
            raise RuntimeError("secret inside")

    provider = scripted(Play(calls=(call("shell"),)), Play("ok"))
    async with house(tmp_path, provider) as home:
        home.agents._toolbox = Toolbox([Broken()])
        await home.say("go")
        [result] = provider.requests[1].messages[-1].content
        assert isinstance(result, ToolResult)
        assert result.is_error
        assert "secret" not in result.content


async def test_closing_the_turn_kills_every_tool_that_runs(tmp_path: Path) -> None:
    async with house(tmp_path, scripted(shells("sleep 300", "sleep 301"))) as home:
        async with closing(home.agents.run(home.tenant, home.snapshot, home.turn("go"))) as stream:
            assert [(await anext(stream)).id for _ in range(2)] == ["c0", "c1"]  # type: ignore[union-attr] # both begin
            await eventually(lambda: len(home.sandbox.running) == 2)
        assert not home.sandbox.running
        assert [line["type"] for line in home.lines()].count("tool_result") == 0


async def test_many_calls_wait_for_a_place(tmp_path: Path) -> None:
    most = 0

    class Counting:
        name: ToolName = "shell"
        annotation = None
        spec = ToolSpec("shell", "Counts.", {"type": "object", "properties": {}})
        inside = 0

        async def run(self, arguments: dict[str, Any], setting: ToolSetting) -> ToolOutcome:
            nonlocal most
            self.inside += 1
            most = max(most, self.inside)
            await asyncio.sleep(0.005)
            self.inside -= 1
            return ToolOutcome("done")

    provider = scripted(Play(calls=tuple(call("shell", f"c{n}") for n in range(20))), Play("ok"))
    async with house(tmp_path, provider) as home:
        home.agents._toolbox = Toolbox([Counting()])
        assert answer(await home.say("go")).tool_calls == 20
    assert most == SIDE_BY_SIDE


async def test_times_are_measured(tmp_path: Path) -> None:
    async with house(tmp_path, scripted(shells("sleep 0.1"), Play("ok"))) as home:
        began = time.monotonic()
        events = await home.say("go")
        [finished] = [event for event in events if isinstance(event, ToolFinished)]
        assert 0.1 <= finished.seconds <= time.monotonic() - began


async def test_a_limit_that_ended_a_call_is_noted_and_another_end_is_not(tmp_path: Path) -> None:
    commands = ("true", "exit 3", "sleep 600")
    limits = SandboxConfig(wall_seconds=2)
    async with house(tmp_path, scripted(shells(*commands), Play("ok")), sandbox=limits) as home:
        await home.say("go")
        [noted] = home.meter.limited
        assert (noted.tool, noted.call_id, noted.ending, noted.agent) == ("shell", "c2", "wall_clock", "main")
        assert noted.request_id
        assert noted.seconds >= 2


async def test_a_call_that_a_limit_let_not_begin_is_noted_too(tmp_path: Path) -> None:
    runner = FakeSandbox(error=SandboxBusy("8 commands of this tenant run already"))
    async with house(tmp_path, scripted(shells("true"), Play("ok")), runner=runner) as home:
        await home.say("go")
        assert [noted.ending for noted in home.meter.limited] == ["busy"]
