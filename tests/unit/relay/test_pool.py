import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from carrel.errors import UpstreamError, UpstreamTimeout
from carrel.relay.pool import Origin, Pool
from tests.fakes.patience import PATIENCE, eventually

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@asynccontextmanager
async def server(*, answers: int = 1_000_000) -> AsyncIterator[tuple[int, list[asyncio.StreamWriter]]]:
    """Answers so many requests on a connection, then closes it."""
    seen: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer)
        try:
            for _ in range(answers):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1], seen
    finally:
        listener.close()
        for writer in seen:
            writer.close()
        await asyncio.sleep(0.02)


def soon(seconds: float = PATIENCE) -> float:
    return asyncio.get_running_loop().time() + seconds


async def exchange(pool: Pool) -> bytes:
    connection = await pool.take(deadline=soon())
    connection.begin(b"GET / HTTP/1.1\r\n\r\n", b"", deadline=soon(), quiet=PATIENCE)
    await connection.head()
    body = await connection.read()
    pool.give_back(connection)
    return body


async def test_connections_are_used_again() -> None:
    async with server() as (port, seen):
        pool = Pool(Origin("p", "127.0.0.1", port, None), limit=4)
        for _ in range(5):
            assert await exchange(pool) == b"hi"
        assert len(seen) == 1
        assert pool.open_connections == 1
        pool.close()


async def test_a_connection_that_was_closed_is_not_taken() -> None:
    async with server(answers=1) as (port, seen):
        pool = Pool(Origin("p", "127.0.0.1", port, None), limit=4)
        await exchange(pool)
        await eventually(lambda: not any(idle.reusable for idle in pool._idle))
        assert pool.take_idle() is None
        await exchange(pool)
        assert len(seen) == 2
        pool.close()


async def test_no_more_than_the_limit_and_each_waits_its_turn() -> None:
    async with server() as (port, seen):
        pool = Pool(Origin("p", "127.0.0.1", port, None), limit=2)
        assert await asyncio.gather(*(exchange(pool) for _ in range(20))) == [b"hi"] * 20
        assert len(seen) == 2
        held = [await pool.take(deadline=soon()) for _ in range(2)]
        with pytest.raises(UpstreamTimeout):
            await pool.take(deadline=soon(0.05))
        waiting = asyncio.create_task(pool.take(deadline=soon()))
        await asyncio.sleep(0.01)
        waiting.cancel()
        again = asyncio.create_task(pool.take(deadline=soon()))
        await asyncio.sleep(0.01)
        pool.give_back(held[0])
        taken = await again
        assert taken.open
        pool.close()


async def test_what_cannot_be_reached_is_an_error_that_may_be_tried_again() -> None:
    async with server() as (port, _):
        pass
    pool = Pool(Origin("p", "127.0.0.1", port, None), limit=1)
    for _ in range(3):
        with pytest.raises(UpstreamError) as failed:
            await pool.take(deadline=soon())
        assert failed.value.retryable
    assert pool.open_connections == 0
    pool.close()


async def test_a_server_without_tls_is_refused_where_tls_is_declared() -> None:
    async with server() as (port, _):
        pool = Pool(Origin("p", "127.0.0.1", port, ssl.create_default_context()), limit=1)
        with pytest.raises(UpstreamError, match=r"TLS|connection"):
            await pool.take(deadline=soon(2.0))
        pool.close()
