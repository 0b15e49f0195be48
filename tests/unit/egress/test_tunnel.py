"""Two connections made one: every byte, half-closes, back-pressure, and an end for both."""

import asyncio
import hashlib
import random
import socket

from carrel.egress.tunnel import Tunnel, joined
from tests.fakes.patience import PATIENCE


async def pair() -> tuple[asyncio.Transport, socket.socket]:
    """A transport, and the other end of it."""
    inside, outside = socket.socketpair()
    inside.setblocking(False)
    outside.setblocking(False)
    return await joined(inside), outside


async def tunnelled(**options: float) -> tuple[socket.socket, socket.socket, "asyncio.Future[tuple[int, int]]"]:
    (a, client), (b, server) = await pair(), await pair()
    ended: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    Tunnel(a, b, ended=lambda sent, received: ended.set_result((sent, received)), **options).start(b"first ")
    return client, server, ended


async def read_all(end: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    pieces = []
    while piece := await loop.sock_recv(end, 65536):
        pieces.append(piece)
    return b"".join(pieces)


async def test_every_byte_arrives_and_each_side_ends_for_itself() -> None:
    client, server, ended = await tunnelled()
    loop = asyncio.get_running_loop()
    there = random.Random(1).randbytes(3_000_000)  # noqa: S311 - noise to compare by
    back = random.Random(2).randbytes(2_000_000)  # noqa: S311

    async def say(end: socket.socket, data: bytes) -> None:
        await loop.sock_sendall(end, data)
        end.shutdown(socket.SHUT_WR)

    async with asyncio.timeout(PATIENCE):
        got_there, got_back, *_ = await asyncio.gather(
            read_all(server), read_all(client), say(client, there), say(server, back)
        )
        assert await ended == (len(there) + 6, len(back))
    assert hashlib.sha256(got_there).digest() == hashlib.sha256(b"first " + there).digest()
    assert got_back == back
    client.close()
    server.close()


async def test_who_does_not_read_holds_up_who_sends_and_not_the_memory() -> None:
    client, server, _ = await tunnelled()
    sent = 0
    before = -1
    while sent != before:
        before = sent
        for _ in range(1000):
            try:
                sent += client.send(b"x" * 65536)
            except BlockingIOError:
                await asyncio.sleep(0)
        await asyncio.sleep(0.1)
    assert sent < 8 << 20
    client.close()
    server.close()


async def test_one_that_breaks_ends_the_other() -> None:
    client, server, ended = await tunnelled()
    client.close()
    async with asyncio.timeout(PATIENCE):
        assert await read_all(server) == b"first "
        server.close()
        await ended


async def test_one_that_is_silent_is_ended() -> None:
    client, server, ended = await tunnelled(idle=0.2)
    async with asyncio.timeout(PATIENCE):
        await ended
    client.close()
    server.close()
