"""Answers through aiohttp's server, on real sockets."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from carrel.ids import RequestId
from carrel.relay.answer import Answer, CallerGone
from carrel.relay.response import Relayed
from tests.fakes.patience import PATIENCE
from tests.unit.relay.harness import Reply, read_reply

Handler = Callable[[web.BaseRequest, Answer], Awaitable[None]]


def answer_to(relayed: Relayed) -> Answer:
    return Answer(
        relayed, status=200, content_type="text/plain", request_id=RequestId("req_1"), provider_request_id="p1"
    )


async def ask(handler: Handler, *requests: bytes) -> list[Reply | None]:
    async def run(request: web.BaseRequest) -> web.StreamResponse:
        relayed = Relayed(request)
        await relayed.introduce()
        await handler(request, answer_to(relayed))
        return relayed

    server = web.Server(run)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname()[:2])
    replies: list[Reply | None] = []
    for request in requests:
        writer.write(request)
        try:
            replies.append(await read_reply(reader))
        except asyncio.IncompleteReadError:
            replies.append(None)
    writer.close()
    listener.close()
    await server.shutdown(1.0)
    return replies


GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\nHost: h\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


async def sized(request: web.BaseRequest, answer: Answer) -> None:
    answer.begin(length=5)
    assert not answer.started
    answer.finish(b"hello")
    assert answer.started


async def chunked(request: web.BaseRequest, answer: Answer) -> None:
    answer.begin()
    await answer.send(b"")
    assert not answer.started
    await answer.send(b"hel")
    answer.finish(b"lo")


@pytest.mark.parametrize("handler", [sized, chunked])
async def test_answers_one_after_the_other(handler: Handler) -> None:
    replies = await ask(handler, GET, GET, LAST, GET)
    assert [reply and reply.body for reply in replies] == [b"hello", b"hello", b"hello", None]
    assert replies[0] is not None
    assert replies[0].headers["x-request-id"] == "req_1"
    assert replies[0].headers["x-provider-request-id"] == "p1"
    assert "date" in replies[0].headers
    assert replies[2] is not None
    assert replies[2].headers["connection"] == "close"


async def test_http_1_0() -> None:
    [sized_reply] = await ask(sized, OLD)
    [chunked_reply] = await ask(chunked, OLD)
    assert sized_reply is not None
    assert chunked_reply is not None
    assert sized_reply.body == chunked_reply.body == b"hello"
    assert "transfer-encoding" not in chunked_reply.headers
    [kept, _] = await ask(sized, OLD.replace(b"Host", b"Connection: keep-alive\r\nHost"), OLD)
    assert kept is not None
    assert kept.headers["connection"] == "keep-alive"


async def test_a_cut_answer_has_no_end() -> None:
    async def handler(request: web.BaseRequest, answer: Answer) -> None:
        answer.begin()
        await answer.send(b"part")
        answer.cut(b"why")

    first, second = await ask(handler, GET, GET)
    assert first is not None
    assert (first.body, first.whole) == (b"partwhy", False)
    assert second is None


async def test_an_answer_that_was_not_begun_is_a_fault() -> None:
    async def nothing(request: web.BaseRequest, answer: Answer) -> None:
        del request, answer

    assert await ask(nothing, LAST) == [None]


async def test_a_caller_that_is_gone() -> None:
    gone = asyncio.Event()

    async def handler(request: web.BaseRequest, answer: Answer) -> None:
        answer.begin()
        assert request.transport is not None
        request.transport.abort()
        try:
            await answer.send(b"x")
        except CallerGone:
            gone.set()
            answer.cut()

    assert await ask(handler, GET) == [None]
    assert gone.is_set()


async def send_much(answer: Answer) -> None:
    for _ in range(2000):
        await answer.send(b"x" * 65536)


async def test_a_caller_that_does_not_read_is_cut_off() -> None:
    gone = asyncio.Event()

    async def handler(request: web.BaseRequest, answer: Answer) -> None:
        answer.stall_seconds = 0.1
        answer.begin()
        with pytest.raises(CallerGone):
            await send_much(answer)
        gone.set()
        answer.cut()

    async def run(request: web.BaseRequest) -> web.StreamResponse:
        relayed = Relayed(request)
        await handler(request, answer_to(relayed))
        return relayed

    server = web.Server(run)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*listener.sockets[0].getsockname()[:2], limit=1024)
    writer.write(GET)
    async with asyncio.timeout(PATIENCE):
        await gone.wait()
    writer.close()
    listener.close()
    await server.shutdown(1.0)
