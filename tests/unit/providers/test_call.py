"""One call, without a network: bytes in whatever pieces, whole answers, deadlines, and what is closed."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from carrel.clock import SystemClock
from carrel.errors import UpstreamError, UpstreamTimeout
from carrel.providers.call import Answer, Limits, StreamCall
from carrel.wire.conversation import Finished, Message, Text, TextDelta
from carrel.wire.openai_upstream import ChunkReader

HI = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}}]}\n\n'
END = b'data: {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
FOREVER = 3600.0


class Line:
    """Answers with ``chunks``, one list for each try; a number is a pause in seconds, an error is raised."""

    def __init__(self, *answers: Sequence[bytes | float | Exception], whole: bool = False) -> None:
        self.answers = list(answers)
        self.whole = whole
        self.opened = self.closed = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Answer]:
        self.opened += 1
        try:
            yield Answer(self._chunks(self.answers.pop(0)), "req_9", whole=self.whole)
        finally:
            self.closed += 1

    async def _chunks(self, chunks: Sequence[bytes | float | Exception]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            if isinstance(chunk, bytes):
                yield chunk
            elif isinstance(chunk, float):
                await asyncio.sleep(chunk)
            else:
                raise chunk

    def call(self, *, timeout: float = 60.0, first_byte: float = 60.0, retries: int = 2) -> StreamCall:
        limits = Limits(timeout, first_byte, retries)
        return StreamCall("p", self.open, ChunkReader, limits, SystemClock(), secret="hunter2")


async def collect(line: Line, *, timeout: float = 60.0, first_byte: float = 60.0) -> list[object]:
    call = line.call(timeout=timeout, first_byte=first_byte)
    events: list[object] = [event async for event in call.events()]
    assert line.opened == line.closed
    return events


FINISHED = Finished(Message("assistant", (Text("hi"),)), "end", None, "req_9")


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_bytes_in_any_pieces(size: int) -> None:
    data = b": comment\n\n" + HI + END + b'data: {"after": "the end"}\n\n'
    line = Line([data[at : at + size] for at in range(0, len(data), size)])
    assert await collect(line) == [TextDelta("hi"), FINISHED]


async def test_a_whole_answer_instead_of_a_stream() -> None:
    body = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()
    assert await collect(Line([body[:9], body[9:]], whole=True)) == [TextDelta("hi"), FINISHED]
    with pytest.raises(UpstreamError, match="not its wire format"):
        await collect(Line([b"<html>"], whole=True))


@pytest.mark.parametrize("record", [
    b"data: {\n\n", b"data: [1]\n\n", b"data: hello\n\n", b"data: %b\n\n" % (b"[" * 100_000 + b"]" * 100_000),
])  # fmt: skip
async def test_what_is_no_record_is_a_cut_and_not_tried_again(record: bytes) -> None:
    for chunks in ([record], [HI, record]):
        line = Line(chunks, [HI, END])
        with pytest.raises(UpstreamError) as caught:
            await collect(line)
        assert caught.value.details["reason"] == "cut"
        assert line.opened == line.closed == 1


async def test_an_empty_answer_is_tried_again() -> None:
    line = Line([], [b": only a comment\n\n"], [HI, END])
    assert await collect(line) == [TextDelta("hi"), FINISHED]
    assert line.opened == 3


async def test_an_error_in_the_stream_loses_its_keys() -> None:
    line = Line([HI, b'data: {"error": {"message": "key hunter2 is bad", "type": "server_error"}}\n\n'])
    with pytest.raises(UpstreamError, match=r"key \*\*\* is bad") as caught:
        await collect(line)
    assert not caught.value.retryable


async def test_a_lost_connection_after_the_first_record_is_a_cut() -> None:
    lost = UpstreamError("lost", retryable=True, details={"reason": "connection"})
    with pytest.raises(UpstreamError) as caught:
        await collect(Line([HI, lost], [HI, END]))
    assert (caught.value.details["reason"], caught.value.retryable) == ("cut", False)
    assert await collect(Line([lost], [HI, END])) == [TextDelta("hi"), FINISHED]


@pytest.mark.parametrize(
    ("chunks", "timeout", "first_byte", "said"),
    [
        ([FOREVER], 60.0, 0.3, "sent nothing"),
        ([b": still here\n\n", FOREVER], 1.0, 0.3, "did not end"),
        ([HI, FOREVER], 0.5, 60.0, "did not end"),
    ],
)
async def test_deadlines(chunks: list[bytes | float | Exception], timeout: float, first_byte: float, said: str) -> None:
    line = Line(chunks)
    with pytest.raises(UpstreamTimeout, match=said):
        await collect(line, timeout=timeout, first_byte=first_byte)
    assert line.opened == line.closed == 1


async def test_a_slow_reader_is_not_cancelled_by_the_deadline() -> None:
    line = Line([HI, FOREVER])
    events = line.call(timeout=0.5).events()
    assert await anext(events) == TextDelta("hi")
    await asyncio.sleep(0.6)
    with pytest.raises(UpstreamTimeout):
        await anext(events)
    assert line.closed == 1


async def test_closing_early_closes_the_answer() -> None:
    line = Line([HI, FOREVER])
    events = line.call().events()
    await anext(events)
    await events.aclose()
    assert line.closed == 1
