"""A turn from the user's message to the answer: what is sent, told, kept and billed."""

from pathlib import Path

import pytest

from carrel.agents.events import AnswerDelta, Notice, ThinkingPiece
from carrel.agents.history import INTERRUPTED
from carrel.agents.prompt import ENVIRONMENT
from carrel.declare.rate_card import TokenCounts
from carrel.declare.tenant import Agent
from carrel.errors import (
    CarrelError,
    InvalidRequest,
    ModelNotAllowed,
    QuotaExceeded,
    StorageFull,
    TooLarge,
    UpstreamError,
)
from carrel.wire.conversation import Image, Message, Text, Thinking, ToolCall, ToolResult
from tests.fakes.agents import RecordingMeter, answer, call, house, models, scripted
from tests.fakes.clock import FakeClock
from tests.fakes.model import Play

BROKEN = UpstreamError("The vendor is broken.", status=500)


def refusing(*numbers: int) -> RecordingMeter:
    """A meter that refuses the calls of those numbers."""
    over = QuotaExceeded("Tokens for today are used up.", quota="tokens", retry_after=60, reset_at=FakeClock().now())
    return RecordingMeter(lambda number: over if number in numbers else None)


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def assistant(text: str) -> Message:
    return Message("assistant", (Text(text),))


async def test_an_answer_is_told_in_pieces_and_ends_with_its_sum(tmp_path: Path) -> None:
    provider = scripted(Play("hello there", thinking="hm"))
    async with house(tmp_path, provider) as home:
        events = await home.say("hi")
        finished = answer(events)
        assert (finished.text, finished.stop, finished.model) == ("hello there", "end", "demo")
        assert (finished.model_calls, finished.tool_calls, finished.usage.total) == (1, 0, 15)
        assert [type(e) for e in events[:2]] == [ThinkingPiece, AnswerDelta]
        assert [line["type"] for line in home.lines()] == ["session", "message", "message", "model_call"]


async def test_the_request_is_what_is_declared(tmp_path: Path) -> None:
    agent = Agent(model="demo", system_prompt="You are Ada.", tools=("shell",), max_tokens=500, thinking="low")
    provider = scripted(Play("ok"))
    async with house(tmp_path, provider, agents={"main": agent}) as home:
        await home.say("hi", system="Be brief.", temperature=0.5, max_tokens=300)
        [request] = provider.requests
        assert request.system == f"You are Ada.\n\n{ENVIRONMENT}\n\nBe brief."
        assert [tool.name for tool in request.tools] == ["shell"]
        assert (request.max_tokens, request.thinking, request.temperature) == (300, "low", 0.5)
        assert home.tenant.id not in repr(request)
        assert home.meter.calls[0].call.max_output == 300


async def test_tools_and_answers_take_turns(tmp_path: Path) -> None:
    provider = scripted(Play("Looking.", calls=(call("shell", command="echo 42"),)), Play("It is 42."))
    async with house(tmp_path, provider) as home:
        finished = answer(await home.say("what?"))
        assert finished.text == "Looking.\n\nIt is 42."
        assert (finished.model_calls, finished.tool_calls) == (2, 1)
        assert finished.usage == TokenCounts(input=20, output=10)
        assert provider.requests[1].messages[1:] == (
            Message("assistant", (Text("Looking."), call("shell", command="echo 42"))),
            Message("user", (ToolResult("c1", "42\n[exit code 0]"),)),
        )
        assert home.meter.outcomes == ["ok", "ok"]
        assert home.meter.calls[0].tool_calls == 1


async def test_the_conversation_goes_on(tmp_path: Path) -> None:
    provider = scripted(Play("one", thinking="hm"), Play("two"))
    async with house(tmp_path, provider) as home:
        await home.say("a")
        await home.say("", messages=[user("a"), assistant("one"), user("b"), user("c")])
        said = provider.requests[1].messages
        assert [m.role for m in said] == ["user", "assistant", "user", "user"]
        assert said[1].content == (Thinking("hm", "signed"), Text("one"))


async def test_a_new_session_takes_all_of_the_callers_history(tmp_path: Path) -> None:
    provider = scripted(Play("ok"))
    dangling = Message("assistant", (ToolCall("x", "shell", "{}"),))
    async with house(tmp_path, provider) as home:
        await home.say("", messages=[user("a"), assistant("b"), user("c"), dangling, user("d")])
        said = provider.requests[0].messages
        assert [m.role for m in said] == ["user", "assistant", "user", "assistant", "user", "user"]
        assert said[4].content == (ToolResult("x", INTERRUPTED, is_error=True),)


async def test_at_most_so_many_calls_of_the_model(tmp_path: Path) -> None:
    provider = scripted(Play("again", calls=(call("shell", command="touch ran"),)))
    async with house(tmp_path, provider, agents={"main": Agent(model="demo", max_turns=3)}) as home:
        events = await home.say("go")
        finished = answer(events)
        assert (finished.stop, finished.model_calls, finished.tool_calls) == ("length", 3, 2)
        assert finished.text.endswith("ask its model 3 times for one message. Say how to go on.]")
        assert any(isinstance(event, Notice) for event in events)
        assert len(home.sandbox.jobs) == 2
        assert [line for line in home.lines() if line["type"] == "tool_result"][-1]["content"].startswith("Not run")
        await home.say("go on")
        assert [m.role for m in provider.requests[3].messages][-3:] == ["user", "assistant", "user"]


async def test_over_quota_before_the_first_call_nothing_is_taken(tmp_path: Path) -> None:
    async with house(tmp_path, scripted(Play("x")), meter=refusing(1)) as home:
        with pytest.raises(QuotaExceeded):
            await home.say("hi")
        assert not home.path().exists()
        assert await home.sessions.list(home.tenant) == []


async def test_over_quota_later_the_turn_ends_with_a_word(tmp_path: Path) -> None:
    provider = scripted(Play(calls=(call("shell", command="echo hi"),)), Play("never"))
    async with house(tmp_path, provider, meter=refusing(2)) as home:
        events = await home.say("go")
        finished = answer(events)
        assert (finished.text, finished.stop) == ("[Stopped: Tokens for today are used up.]", "length")
        assert Notice("Stopped: Tokens for today are used up.") in events
        assert home.meter.outcomes == ["ok"]
        assert len(provider.requests) == 1


async def test_a_fallback_is_told_and_billed_as_itself(tmp_path: Path) -> None:
    provider = scripted(Play(error=BROKEN), Play("from the second"))
    agent = Agent(model="demo", fallbacks=("second",))
    async with house(tmp_path, provider, agents={"main": agent}, gateway={"models": models()}) as home:
        events = await home.say("hi")
        assert (answer(events).model, answer(events).model_calls) == ("second", 2)
        assert [c.call.model for c in home.meter.calls] == ["demo", "second"]
        assert [line["outcome"] for line in home.lines() if line["type"] == "model_call"] == ["error", "ok"]


async def test_a_failed_turn_is_taken_once_however_often_it_is_tried(tmp_path: Path) -> None:
    provider = scripted(Play(error=BROKEN), Play(error=BROKEN), Play("at last"))
    async with house(tmp_path, provider) as home:
        for _ in range(2):
            with pytest.raises(UpstreamError):
                await home.say("hi")
        assert answer(await home.say("hi")).text == "at last"
        assert provider.requests[2].messages == (user("hi"),)
        kinds = [line["type"] for line in home.lines()]
        assert kinds.count("message") == 2
        assert kinds.count("error") == 2


async def test_the_message_is_on_the_disk_before_the_model_is_asked(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def look(_: object) -> Play:
        seen.append([line["type"] for line in home.lines()])
        return Play("ok")

    async with house(tmp_path, scripted(look)) as home:
        await home.say("hi")
        assert seen == [["session", "message"]]


async def test_a_full_disk_takes_no_message_and_asks_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = scripted(Play("ok"))
    async with house(tmp_path, provider) as home:
        await home.say("hi")
        before = home.path().read_bytes()

        def full(fd: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(home.sessions, "_sync", full)
        with pytest.raises(StorageFull):
            await home.say("more")
        assert len(provider.requests) == 1
        assert home.path().read_bytes() == before
        assert home.meter.outcomes == ["ok", "error"]
        monkeypatch.undo()
        assert answer(await home.say("more")).text == "ok"


async def test_images_go_to_models_that_see(tmp_path: Path) -> None:
    picture = Message("user", (Text("what is it?"), Image(data="aGk=")))
    blind = scripted(Play("ok"))
    async with house(tmp_path / "blind", blind) as home:
        with pytest.raises(InvalidRequest, match="takes no images"):
            await home.say("", messages=[picture])
        assert not home.path().exists()
    seeing = scripted(Play("a cat"), Play("yes"))
    gateway = {"models": models(inputs=("text", "image"))}
    agent = Agent(model="demo", fallbacks=("second",))
    async with house(tmp_path / "seeing", seeing, gateway=gateway, agents={"main": agent}) as home:
        await home.say("", messages=[picture])
        assert seeing.requests[0].messages == (picture,)
        assert home.meter.calls[0].call.max_input > 8192
        await home.say("sure?")
        assert seeing.requests[1].messages[0] == picture


async def test_a_model_that_is_not_allowed_is_not_asked(tmp_path: Path) -> None:
    async with house(tmp_path, scripted(Play("x")), models=("other*",)) as home:
        with pytest.raises(ModelNotAllowed):
            await home.say("hi")
        assert not home.meter.calls


async def test_an_answer_that_only_comes_at_the_end_is_told(tmp_path: Path) -> None:
    async with house(tmp_path, scripted(Play(""))) as home:
        assert answer(await home.say("hi")).text == ""
        await home.say("again")
        assert [line["type"] for line in home.lines()].count("message") == 2


async def test_call_ids_that_come_twice_are_told_apart(tmp_path: Path) -> None:
    provider = scripted(
        Play(calls=(call("shell", "", command="echo a"), call("shell", "", command="echo b"))),
        Play(calls=(call("shell", "c1", command="echo c"),)),
        Play(calls=(call("shell", "c1", command="echo d"),)),
        Play("ok"),
    )
    async with house(tmp_path, provider) as home:
        await home.say("go")
        results = [b for m in provider.requests[3].messages for b in m.content if isinstance(b, ToolResult)]
        assert [r.content[0] for r in results] == list("abcd")
        assert len({r.call_id for r in results}) == 4


async def test_a_conversation_that_grows_long_is_folded_up(tmp_path: Path) -> None:
    def reply(request: object) -> Play:
        text = repr(request)
        return Play("They spoke of numbers.") if "--- the conversation ---" in text else Play("fine " * 100, usage=None)

    provider = scripted(reply)
    async with house(tmp_path, provider, gateway={"models": models(window=4096, output=512)}) as home:
        notices = []
        for number in range(12):
            events = await home.say(f"number {number} " + "x" * 1200)
            notices += [event.text for event in events if isinstance(event, Notice)]
        assert any("are now a summary" in text for text in notices)
        last = provider.requests[-1].messages
        assert "They spoke of numbers." in repr(last[0])
        assert "number 11" in repr(last[-1])
        assert len([line for line in home.lines() if line["type"] == "message"]) == 24
        purposes = {line["purpose"] for line in home.lines() if line["type"] == "model_call"}
        assert purposes == {"turn", "compaction"}
        for settled in home.meter.calls:
            assert settled.call.max_input <= 4096
        assert set(home.meter.outcomes) == {"ok"}


async def test_what_is_longer_than_the_window_is_refused_and_not_taken(tmp_path: Path) -> None:
    async with house(tmp_path, gateway={"models": models(window=2048, output=256)}) as home:
        with pytest.raises(TooLarge):
            await home.say("x" * 20_000)
        assert not home.path().exists()
        assert answer(await home.say("hello")).text


async def test_long_results_do_not_break_the_window(tmp_path: Path) -> None:
    big = tuple(call("shell", f"c{n}", command="seq 1 20000") for n in range(4))
    provider = scripted(Play(calls=big), Play("ok"))
    async with house(tmp_path, provider, gateway={"models": models(window=8192, output=512)}) as home:
        assert answer(await home.say("go")).text == "ok"
        assert "bytes are left out here" in repr(provider.requests[-1].messages[-1])


async def test_a_line_that_cannot_be_read_is_told_once(tmp_path: Path) -> None:
    async with house(tmp_path, scripted(Play("ok"))) as home:
        await home.say("a")
        lines = home.path().read_bytes().splitlines(keepends=True)
        home.path().write_bytes(b"".join([*lines[:2], b"garbage\n", *lines[2:]]))
        assert any(isinstance(e, Notice) and "Line 3" in e.text for e in await home.say("b"))
        assert not any(isinstance(e, Notice) for e in await home.say("c"))


@pytest.mark.parametrize("agent", [Agent(model="nothing"), Agent(model="demo", tools=())])
async def test_an_agent_without_tools_or_model(tmp_path: Path, agent: Agent) -> None:
    provider = scripted(Play("ok"))
    async with house(tmp_path, provider, agents={"main": agent}) as home:
        if agent.model == "nothing":
            with pytest.raises(CarrelError, match="No model is called"):
                await home.say("hi")
        else:
            await home.say("hi")
            assert (provider.requests[0].tools, provider.requests[0].system) == ((), "")
