"""What the parser refuses, and bodies that come faster than they are read."""

import asyncio

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from carrel.http.connection import EdgeProtocol, EdgeServer
from tests.fakes.edge import Edge
from tests.fakes.patience import eventually, soon


async def test_the_parsers_refusal_is_ours_and_the_connection_closes(edge: Edge) -> None:
    with capture_logs() as lines:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nBad\x00Name: canary\r\n\r\n")
        answer = await soon(reader.read())
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"400"
    assert b"application/problem+json" in head
    assert b"X-Request-I" in head
    assert b"Server:" not in head
    assert b"canary" not in body
    assert [line["event"] for line in lines] == ["request refused by the parser"]


async def test_a_well_formed_request_on_the_next_connection_is_served(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await soon(reader.read())
    assert answer.startswith(b"HTTP/1.1 200 ")
    writer.close()


class NoWay:
    """A short way of which no request is."""

    path = "/elsewhere"

    def take(self, connection: EdgeProtocol, head: object, body: bytes) -> None:
        raise AssertionError(head)


@pytest.mark.parametrize("size", [1, 300_000, 600_000, 2_000_000])
async def test_a_body_is_read_to_its_end_also_after_its_parser_was_held(size: int) -> None:
    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        # The edge of aiohttp's buffer is at 512 KiB: above it nothing is taken until somebody reads.
        protocol = request.protocol
        if size > 1 << 19:
            await eventually(lambda: protocol._reading_paused)
        return web.Response(text=str(len(await request.content.read())))

    server = EdgeServer(slow, limit=4, short_way=NoWay())
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    for _ in range(2):
        writer.write(b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        head = await soon(reader.readuntil(b"\r\n\r\n"))
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await soon(reader.readexactly(len(str(size)))) == str(size).encode()
    writer.close()
    await writer.wait_closed()
    listening.close()
    await server.shutdown()


async def test_who_is_cancelled_while_it_waits_for_a_slow_reader_takes_no_other_along() -> None:
    protocol = EdgeProtocol(EdgeServer(lambda _: None, limit=4), loop=asyncio.get_running_loop())
    protocol.connection_made(asyncio.Transport())
    protocol.pause_writing()
    one, two = (asyncio.create_task(protocol._drain_helper()) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.wait([one])
    three = asyncio.create_task(protocol._drain_helper())
    await asyncio.sleep(0)
    assert not two.done()
    assert not three.done()
    protocol.resume_writing()
    await soon(asyncio.gather(two, three))
    await protocol._drain_helper()
