"""Falling back: before the first event only."""

from collections.abc import AsyncGenerator

import pytest

from carrel.errors import InvalidRequest, UpstreamError
from carrel.providers.fallback import Answering, stream_with_fallbacks
from carrel.wire.conversation import Finished, Message, ModelEvent, ModelRequest, Text, TextDelta

END = Finished(Message("assistant", (Text("x"),)), "end", None)


class Scripted:
    """Gives ``events``, raising those that are errors."""

    def __init__(self, *events: ModelEvent | Exception) -> None:
        self.name = "scripted"
        self.events = events
        self.closed = False

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        try:
            for event in self.events:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.closed = True


def candidates(*providers: Scripted) -> list[tuple[Scripted, ModelRequest]]:
    return [(provider, ModelRequest(f"m{n}", ())) for n, provider in enumerate(providers)]


async def test_the_first_that_answers_is_told_with_the_failures_before() -> None:
    error = UpstreamError("down", status=503)
    chain = candidates(Scripted(error), Scripted(TextDelta("x"), END), Scripted(END))
    assert [e async for e in stream_with_fallbacks(chain)] == [Answering(1, (error,)), TextDelta("x"), END]


async def test_nothing_is_begun_again_after_an_event() -> None:
    second = Scripted(END)
    stream = stream_with_fallbacks(candidates(Scripted(TextDelta("x"), UpstreamError("cut")), second))
    assert [await anext(stream), await anext(stream)] == [Answering(0, ()), TextDelta("x")]
    with pytest.raises(UpstreamError, match="cut"):
        await anext(stream)
    assert not second.closed


async def test_the_last_error_is_raised() -> None:
    chain = candidates(Scripted(UpstreamError("one")), Scripted(UpstreamError("two")))
    with pytest.raises(UpstreamError, match="two"):
        _ = [e async for e in stream_with_fallbacks(chain)]


async def test_a_callers_mistake_is_no_reason_to_go_on() -> None:
    with pytest.raises(InvalidRequest):
        _ = [e async for e in stream_with_fallbacks(candidates(Scripted(InvalidRequest("no")), Scripted(END)))]


async def test_closing_early_closes_the_one_that_answers() -> None:
    first = Scripted(TextDelta("x"), END)
    stream = stream_with_fallbacks(candidates(first))
    await anext(stream)
    await anext(stream)
    await stream.aclose()
    assert first.closed


async def test_an_empty_list_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no candidate"):
        await anext(stream_with_fallbacks([]))
