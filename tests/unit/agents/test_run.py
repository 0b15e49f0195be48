"""Turns from outside: one after the other, cancelled or killed anywhere, and a session that goes on after it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from carrel.agents.entries import parse_entry
from carrel.agents.events import AgentEvent, ToolFinished, TurnFinished
from carrel.agents.history import INTERRUPTED
from carrel.agents.streams import closing
from carrel.declare.tenant import Agent, Member, SandboxConfig
from carrel.errors import Conflict, NotFound, TenantSuspended, UpstreamError
from carrel.ids import SessionId
from carrel.wire.conversation import Message, ModelRequest, Text, ToolCall, ToolResult
from tests.fakes.agents import House, answer, call, house, scripted
from tests.fakes.model import Play, ScriptedProvider
from tests.fakes.patience import eventually
from tests.fakes.tenants import make_snapshot, make_tenant

PYTHON = Path(__file__).resolve().parents[3] / "python"
ROUND = Play(
    "Looking. ", calls=(call("shell", "c1", command="echo one"), call("file_write", "c2", path="f", content="x"))
)


def well_formed(messages: Sequence[Message]) -> bool:
    """Whether every provider takes the messages: each call answered at once, nothing empty, the user last."""
    for at, message in enumerate(messages):
        calls = [b.id for b in message.content if isinstance(b, ToolCall)]
        results = [b.call_id for b in message.content if isinstance(b, ToolResult)]
        following = messages[at + 1].content if at + 1 < len(messages) else ()
        before = messages[at - 1].content if at else ()
        if not message.content or [b.call_id for b in following if isinstance(b, ToolResult)] != calls:
            return False
        if results and results != [b.id for b in before if isinstance(b, ToolCall)]:
            return False
    return messages[-1].role == "user"


async def test_two_messages_to_one_session_are_answered_in_turn(tmp_path: Path) -> None:
    def reply(request: ModelRequest) -> Play:
        return Play(f"answer {sum(m.role == 'user' for m in request.messages)}")

    provider = scripted(reply)
    async with house(tmp_path, provider) as home:

        async def one(number: int) -> str:
            async for event in home.agents.run(home.tenant, home.snapshot, home.turn(f"message {number}")):
                assert provider.open_calls <= 1
                last = event
            assert isinstance(last, TurnFinished)
            return last.text

        answers = await asyncio.gather(*(one(number) for number in range(6)))
        assert answers == [f"answer {number}" for number in range(1, 7)]
        said = [line["content"][0]["text"] for line in home.lines() if line["type"] == "message"]
        assert said == [text for n in range(6) for text in (f"message {n}", f"answer {n + 1}")]


async def test_sessions_do_not_wait_for_each_other(tmp_path: Path) -> None:
    provider = scripted(Play(hold=True), Play("free"))
    async with house(tmp_path, provider) as home:
        held = asyncio.ensure_future(home.say("a", session="one"))
        await provider.holding.wait()
        assert answer(await home.say("b", session="two")).text == "free"
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)


async def events_of_a_whole_turn(path: Path) -> int:
    async with house(path, scripted(ROUND, Play("Done."))) as home:
        return len(await home.say("go"))


@pytest.mark.parametrize("after", range(16))
async def test_closed_after_any_event_it_leaves_a_session_that_goes_on(tmp_path: Path, after: int) -> None:
    provider = scripted(ROUND, Play("Done."), Play("Back."))
    async with house(tmp_path, provider) as home:
        told: list[AgentEvent] = []
        async with closing(home.agents.run(home.tenant, home.snapshot, home.turn("go"))) as events:
            while len(told) < after and (event := await anext(events, None)) is not None:
                told.append(event)
        await _still_whole(home, provider, told)


@pytest.mark.parametrize("steps", [*range(0, 60, 3), 80, 120])
async def test_cancelled_at_any_step_it_leaves_a_session_that_goes_on(tmp_path: Path, steps: int) -> None:
    provider = scripted(ROUND, Play("Done."), Play("Back."))
    async with house(tmp_path, provider) as home:
        told: list[AgentEvent] = []

        async def turn() -> None:
            async with closing(home.agents.run(home.tenant, home.snapshot, home.turn("go"))) as events:
                async for event in events:
                    told.append(event)  # noqa: PERF401 - what was told until the cancellation counts

        task = asyncio.ensure_future(turn())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await _still_whole(home, provider, told)


async def _still_whole(home: House, provider: ScriptedProvider, told: Sequence[AgentEvent]) -> None:
    assert provider.open_calls == 0
    assert not home.sandbox.running
    assert len(home.meter.outcomes) == len(home.meter.calls)
    kept = home.path().read_text() if home.path().exists() else ""
    for event in told:
        if isinstance(event, ToolFinished):
            assert json.dumps(event.content)[1:-1] in kept
    provider.script = [Play("Back.")]
    answered = answer(await home.say("and now?"))
    assert answered.text == "Back."
    assert well_formed(provider.requests[-1].messages)
    assert provider.requests[-1].messages[-1] == Message("user", (Text("and now?"),))


async def test_what_was_said_before_the_caller_went_is_kept(tmp_path: Path) -> None:
    provider = scripted(Play("abcdefgh", hold=True, error_after=1), Play("ok"))
    async with house(tmp_path, provider) as home:
        async with closing(home.agents.run(home.tenant, home.snapshot, home.turn("go"))) as events:
            await anext(events)
        assert home.meter.outcomes == ["cancelled"]
        [cut] = [line for line in home.lines() if line.get("interrupted")]
        assert cut["content"] == [{"type": "text", "text": "abcd"}]
        await home.say("go on")
        assert provider.requests[1].messages[1] == Message("assistant", (Text("abcd"),))


async def test_tools_that_were_cut_off_are_said_to_be(tmp_path: Path) -> None:
    provider = scripted(Play(calls=(call("shell", command="sleep 300"),)), Play("ok"))
    async with house(tmp_path, provider) as home:
        task = asyncio.ensure_future(home.say("go"))
        await eventually(lambda: home.sandbox.running)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not home.sandbox.running
        await home.say("well?")
        assert ToolResult("c1", INTERRUPTED, is_error=True) in provider.requests[1].messages[2].content


def _killed_at(state: Path, line: int, *messages: str) -> list[dict[str, str]]:
    """Play turns in a process that is killed when it has said ``line`` lines; what it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.killed_turn", str(state), *messages],
        stdout=subprocess.PIPE, cwd=PYTHON, env={"PYTHONPATH": f"{PYTHON}:{PYTHON.parent}", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert process.stdout is not None
    said = []
    for text in process.stdout:
        said.append(json.loads(text))
        if len(said) == line:
            break
    process.kill()
    process.stdout.close()
    process.wait()
    return said


@pytest.mark.parametrize("line", [1, 2, 3, 4, 12, 60])
async def test_killed_at_any_time_nothing_that_was_told_is_lost(tmp_path: Path, line: int) -> None:
    tools = 'tool: shell {"command": "echo one"}\ntool: shell {"command": "echo two; sleep 0.05"}'
    said = await asyncio.to_thread(_killed_at, tmp_path, line, tools, "hello", tools)
    assert len(said) == line
    async with house(tmp_path) as home:
        [summary] = await home.sessions.list(home.tenant)
        assert summary.session_id == "s1"
        kept = home.path().read_bytes()
        for event in said:
            if event["kind"] in ("ToolFinished", "TurnFinished"):
                assert json.dumps(event["text"], ensure_ascii=False)[1:-1].encode() in kept
        assert answer(await home.say("hello")).text
        assert all(parse_entry(text) for text in home.path().read_bytes().splitlines()[1:])


async def test_a_suspended_tenants_agents_do_not_run(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        suspended = make_tenant(tmp_path, "bravo", suspended=True)
        with pytest.raises(TenantSuspended):
            await anext(home.agents.run(suspended, make_snapshot(suspended), home.turn("hi")))
        suspended.root.close()


async def test_agents_and_sessions_that_there_are_not(tmp_path: Path) -> None:
    async with house(tmp_path, agents={"main": Agent(model="demo"), "ada": Agent(model="demo")}) as home:
        with pytest.raises(NotFound, match="no agent 'nobody'"):
            await home.say("hi", agent="nobody")
        with pytest.raises(NotFound, match="No such session"):
            await home.say("hi", create=False)
        await home.say("hi")
        await home.say("hi", create=False)
        with pytest.raises(Conflict, match="of the agent 'main'"):
            await home.say("hi", agent="ada")


async def test_an_error_of_the_vendor_is_raised_and_kept(tmp_path: Path) -> None:
    async with house(tmp_path, scripted(Play(error=UpstreamError("The vendor is broken.", status=500)))) as home:
        with pytest.raises(UpstreamError):
            await home.say("hi")
        last = home.lines()[-1]
        assert (last["type"], last["code"], last["message"]) == ("error", "upstream_error", "The vendor is broken.")


async def test_each_person_has_a_workspace_of_their_own(tmp_path: Path) -> None:
    people = (Member(name="ada"), Member(name="bob"))
    async with house(tmp_path, sandbox=SandboxConfig(scope="member"), members=people) as home:
        whole = home.tenant
        ada, bob = whole.as_member("ada"), whole.as_member("bob")
        for home.tenant, text in ((ada, "write: f\nada's"), (bob, "write: f\nbob's"), (ada, "run: cat f; ls -a ..")):
            await home.say(text, session="one")
        root = tmp_path / "tenants/acme"
        assert (root / "sandbox.d/member-ada/f").read_text() == "ada's"
        assert (root / "sandbox.d/member-bob/f").read_text() == "bob's"
        assert [job.workspace for _, job in home.sandbox.jobs] == ["sandbox.d/member-ada"]
        assert [s.session_id for s in await home.sessions.list(ada)] == ["one"]
        assert await home.sessions.list(whole) == []
        with pytest.raises(NotFound):
            await home.sessions.delete(whole, SessionId("one"))
        await home.sessions.delete(bob, SessionId("one"))
        assert (await home.sessions.preview(ada, SessionId("one"), limit=9))[0].role == "user"
        assert (root / "sandbox.d/member-bob/f").exists()


async def test_the_packages_are_those_of_the_tenant(tmp_path: Path) -> None:
    async with house(tmp_path, packages=("git", "jq")) as home:
        await home.say("hello")
        assert home.environments.asked == []
        await home.say("run: true")
        assert home.environments.asked == [frozenset({"git", "jq"})]


async def test_a_session_of_one_tenant_is_none_of_another(tmp_path: Path) -> None:
    provider = scripted(Play("ok"))
    async with house(tmp_path, provider) as home:
        await home.say("a secret")
        other = make_tenant(tmp_path, "bravo")
        async for _ in home.agents.run(other, make_snapshot(other), home.turn("what was said?")):
            continue
        assert "secret" not in repr(provider.requests[-1])
        assert await home.sessions.preview(other, SessionId("s1"), limit=1) == [Message("assistant", (Text("ok"),))]
        other.root.close()


async def test_nothing_blocks_the_loop(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        with blockbuster_ctx():
            for message in ("hello", "write: a/b\nx", "read: a/b", "tool: file_list {}",
                            'tool: file_edit {"path": "a/b", "old": "x", "new": "y"}'):  # fmt: skip
                answer(await home.say(message))
            for session in await home.sessions.list(home.tenant):
                await home.sessions.preview(home.tenant, session.session_id, limit=9)
                await home.sessions.reset(home.tenant, session.session_id)
                await home.sessions.delete(home.tenant, session.session_id)


async def test_turns_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    provider = scripted(
        Play("ok"), Play(error=UpstreamError("broken", status=500)), Play("abcd", hold=True, error_after=1)
    )
    async with house(tmp_path, provider) as home:
        await home.say("a")
        with pytest.raises(UpstreamError):
            await home.say("b")
        async with closing(home.agents.run(home.tenant, home.snapshot, home.turn("c"))) as events:
            await anext(events)
        text = home.agents._metrics.render().decode()
        for ending in ("ok", "upstream_error", "cancelled"):
            assert f'carrel_turns_total{{ending="{ending}",tenant="acme"}} 1.0' in text
