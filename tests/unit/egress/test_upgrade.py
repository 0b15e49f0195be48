"""WebSockets through a gate, in clear and where the gateway ends TLS, by a real client."""

import asyncio
import base64
import contextlib
import ssl
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web

from tests.fakes.egress import EgressHouse, local
from tests.fakes.patience import PATIENCE


async def echo(request: web.Request) -> web.StreamResponse:
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return web.Response(status=426, text="upgrade")
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"echo {message.data}")
        if message.data == "end":
            await socket.close()
    return socket


@pytest.mark.parametrize("secure", [False, True])
async def test_frames_go_both_ways_until_the_end(house: EgressHouse, secure: bool) -> None:
    port = await house.host("ws.test", echo, secure=secure)
    rule = local("ws.test", port, paths=["/"]) if secure else local("ws.test", port, tls=False)
    house.declare({"allow": [rule]})
    proxy = await house.serve(house.gate())
    trust = ssl.create_default_context(cadata=house.egress.authority(house.tenant.id).certificate.decode())
    address = f"{'https' if secure else 'http'}://ws.test:{port}/"
    async with (
        asyncio.timeout(PATIENCE),
        aiohttp.ClientSession() as client,
        client.ws_connect(address, proxy=proxy, ssl=trust) as socket,
    ):
        for text in ("one", "x" * 100_000, "end"):
            await socket.send_str(text)
            assert (await socket.receive()).data == f"echo {text}"
        assert (await socket.receive()).type == aiohttp.WSMsgType.CLOSE


async def test_a_host_that_does_not_agree_is_passed_on(house: EgressHouse) -> None:
    async def refuses(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=426, text="upgrade")

    port = await house.host("ws.test", refuses, secure=False)
    house.declare({"allow": [local("ws.test", port, tls=False)]})
    proxy = await house.serve(house.gate())
    async with (
        asyncio.timeout(PATIENCE),
        aiohttp.ClientSession() as client,
        client.get(f"http://ws.test:{port}/", proxy=proxy, headers=WISH) as answer,
    ):
        assert (answer.status, await answer.text()) == (426, "upgrade")


WISH = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


async def changing(house: EgressHouse, answer: bytes) -> tuple[str, int, list[bytes]]:
    """A host that answers whatever it is asked with ``answer``, and hears what comes after; its gate's proxy."""
    heard: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        while data := await reader.read(1000):
            heard.append(data)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    house.stack.callback(server.close)
    house.names.known["ws.test"] = [["127.0.0.1"]]
    port = int(server.sockets[0].getsockname()[1])
    house.declare({"allow": [local("ws.test", port, tls=False, paths=["/open"])]})
    return await house.serve(house.gate()), port, heard


async def talked(proxy: str, port: int, fields: str) -> bytes:
    """What a client hears that asks by hand, and then goes on as if the protocol had changed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(proxy).port)
    head = f"GET http://ws.test:{port}/open HTTP/1.1\r\nHost: ws.test:{port}\r\n{AUTH(proxy)}{fields}\r\n"
    writer.write(head.encode())
    told = await reader.readuntil(b"\r\n\r\n")
    with contextlib.suppress(OSError):
        writer.write(b"GET /closed HTTP/1.1\r\nHost: ws.test\r\n\r\n")
        writer.write_eof()
    while more := await reader.read(1000):
        told += more
    writer.close()
    return told


def AUTH(proxy: str) -> str:
    given = base64.b64encode(f"carrel:{urlsplit(proxy).password}".encode()).decode()
    return f"Proxy-Authorization: Basic {given}\r\n"


AGREES = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        (
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            AGREES + b"h2c\r\n\r\n",
        ),
        ("Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n", AGREES + b"TLS/1.2\r\n\r\n"),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", AGREES + b"websocket\r\n\r\n"),
        ("".join(f"{n}: {v}\r\n" for n, v in WISH.items()), AGREES + b"websocket\r\n\r\n"),
        (
            "".join(f"{n}: {v}\r\n" for n, v in WISH.items()),
            AGREES + b"websocket\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
        ),
    ],
    ids=["h2c", "tls", "without a key", "without proof", "with another proof"],
)
async def test_S4_05_no_other_protocol_carries_requests_past_the_rules(
    house: EgressHouse, fields: str, answer: bytes
) -> None:
    proxy, port, heard = await changing(house, answer)
    async with asyncio.timeout(PATIENCE):
        told = await talked(proxy, port, fields)
    assert b" 101 " not in told
    assert b"/closed" not in b"".join(heard)


async def test_S4_05_twin_a_websocket_that_proves_itself_goes_on(house: EgressHouse) -> None:
    agreed = AGREES + b"websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    proxy, port, heard = await changing(house, agreed)
    async with asyncio.timeout(PATIENCE):
        told = await talked(proxy, port, "".join(f"{n}: {v}\r\n" for n, v in WISH.items()))
    assert told.startswith(b"HTTP/1.1 101 ")
    assert b"/closed" in b"".join(heard), "what a WebSocket carries is for the host"


async def test_S5_02_a_secret_does_not_come_back_in_a_frame(house: EgressHouse) -> None:
    async def telling(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(f"you are {request.headers['X-Key']}, I know")
        await socket.close()
        return socket

    port = await house.host("ws.test", telling)
    declared = {"secret": "TOK", "env": "TOK", "hosts": [f"ws.test:{port}"], "header": "X-Key"}
    house.declare({"allow": [local("ws.test", port)], "inject": [declared]})
    house.secrets.values["TOK"] = "s3cr3t-of-the-test"
    gate = house.gate()
    proxy = await house.serve(gate)
    trust = ssl.create_default_context(cadata=house.egress.authority(house.tenant.id).certificate.decode())
    async with (
        asyncio.timeout(PATIENCE),
        aiohttp.ClientSession() as client,
        client.ws_connect(
            f"https://ws.test:{port}/", proxy=proxy, ssl=trust, headers={"X-Key": gate.env["TOK"]}, compress=15
        ) as socket,
    ):
        assert (await socket.receive()).data == f"you are {'*' * 18}, I know"
