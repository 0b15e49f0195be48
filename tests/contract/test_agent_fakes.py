"""The fakes that agents are tested with keep the promises of what they stand for."""

import pytest

from carrel.agents.streams import closing
from carrel.errors import UpstreamError
from carrel.wire.conversation import Finished, Message, ModelRequest, Text, TextDelta, ThinkingDelta
from tests.fakes.agents import call
from tests.fakes.model import Play, ScriptedProvider

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
