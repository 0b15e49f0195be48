"""TLS ended on a connection whose first bytes are read already, however few or many they are."""

import asyncio
import socket
import ssl

import pytest

from carrel.clock import SystemClock
from carrel.declare.hosts import canonical
from carrel.egress.authority import Authority
from carrel.egress.terminate import end_tls
from carrel.egress.tunnel import joined
from tests.fakes.patience import PATIENCE


class Inside(asyncio.Protocol):
    def __init__(self) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())  # type: ignore[attr-defined] # a transport that writes

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


@pytest.mark.parametrize("read", [0, 1, 100, 65536])
async def test_it_goes_on_from_there(read: int) -> None:
    authority = Authority("acme", SystemClock())
    client, server = socket.socketpair()
    for end in (client, server):
        end.setblocking(False)
    trust = ssl.create_default_context(cadata=authority.certificate.decode())
    opening = asyncio.ensure_future(asyncio.open_connection(sock=client, ssl=trust, server_hostname="a.com"))
    first = await asyncio.get_running_loop().sock_recv(server, read) if read else b""
    inside = Inside()
    transport = await joined(server)
    end_tls(transport, first, authority.context(canonical("a.com")), inside)
    async with asyncio.timeout(PATIENCE):
        reader, writer = await opening
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"HELLO"
        writer.close()
        await inside.lost


async def test_what_is_no_handshake_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrel.egress.terminate.HANDSHAKE_SECONDS", 0.5)
    authority = Authority("acme", SystemClock())
    client, server = socket.socketpair()
    for end in (client, server):
        end.setblocking(False)
    end_tls(await joined(server), b"\x16\x03\x01\x00\x02hi", authority.context(canonical("a.com")), Inside())
    async with asyncio.timeout(PATIENCE):
        while await asyncio.get_running_loop().sock_recv(client, 100):
            pass
    client.close()
