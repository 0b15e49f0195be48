import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from carrel.errors import UpstreamError, UpstreamTimeout
from carrel.relay.connection import HIGH_WATER, Connection
from tests.fakes.patience import PATIENCE

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def connected(serve: Serve) -> AsyncIterator[Connection]:
    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(run, "127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Connection("p", loop), *listener.sockets[0].getsockname()[:2]
    )  # fmt: skip
    try:
        yield connection
    finally:
        connection.abort()
        listener.close()
        await asyncio.sleep(0.02)


def begin(connection: Connection, *, deadline: float = PATIENCE, quiet: float = PATIENCE, body: bytes = b"") -> None:
    now = asyncio.get_running_loop().time()
    connection.begin(b"POST / HTTP/1.1\r\n\r\n", body, deadline=now + deadline, quiet=quiet)


async def whole(connection: Connection) -> bytes:
    body = b""
    while piece := await connection.read():
        body += piece
    return body


async def head_and_body(connection: Connection) -> bytes:
    await connection.head()
    return await whole(connection)


async def test_a_request_goes_out_as_it_is_and_the_answer_comes_in() -> None:
    got = asyncio.Event()
    body = b"x" * (HIGH_WATER + 5)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readuntil(b"\r\n\r\n") == b"POST / HTTP/1.1\r\n\r\n"
        assert await reader.readexactly(len(body)) == body
        got.set()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await asyncio.sleep(0.02)
        writer.write(b"cd")
        await reader.read()

    async with connected(serve) as connection:
        begin(connection, body=body)
        assert connection.silent
        assert (await connection.head()).status == 200
        assert await whole(connection) == b"abcd"
        assert got.is_set()
        assert connection.complete
        assert connection.reusable
        connection.end()
        assert connection.open


async def test_an_upstream_that_is_not_read_is_paused() -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(400):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with connected(serve) as connection:
        begin(connection)
        await connection.head()
        before = -1
        while not sent or sent != before:
            before = sent
            await asyncio.sleep(0.3)
        assert 0 < sent < 400 * 65536
        assert len(await whole(connection)) == 400 * 65536


async def test_deadlines() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.02)

    async with connected(serve) as connection:
        begin(connection, deadline=1.0)
        await connection.head()
        with pytest.raises(UpstreamTimeout, match="deadline"):
            await whole(connection)
        assert not connection.reusable

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with connected(silent) as connection:
        begin(connection, quiet=0.1)
        with pytest.raises(UpstreamTimeout, match="did not answer"):
            await connection.head()


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
async def test_what_is_no_answer_is_an_error(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async with connected(serve) as connection:
        begin(connection)
        with pytest.raises(UpstreamError):
            await head_and_body(connection)
        assert not connection.reusable
        begin(connection)
        with pytest.raises(UpstreamError):
            await connection.head()


async def test_an_exchange_that_is_left_half_way_closes_the_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await reader.read()

    async with connected(serve) as connection:
        begin(connection)
        await connection.head()
        connection.end()
        assert not connection.open
