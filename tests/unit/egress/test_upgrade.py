"""WebSockets through a gate, in clear and where the gateway ends TLS, by a real client."""

import asyncio
import ssl

import aiohttp
import pytest
from aiohttp import web

from tests.fakes.egress import EgressHouse, local


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
        asyncio.timeout(60),
        aiohttp.ClientSession() as client,
        client.ws_connect(address, proxy=proxy, ssl=trust) as socket,
    ):
        for text in ("one", "x" * 100_000, "end"):
            await socket.send_str(text)
            assert (await socket.receive()).data == f"echo {text}"
        assert (await socket.receive()).type == aiohttp.WSMsgType.CLOSE


async def test_a_host_that_does_not_agree_is_passed_on(house: EgressHouse) -> None:
    port = await house.host("ws.test", echo, secure=False)
    house.declare({"allow": [local("ws.test", port, tls=False)]})
    proxy = await house.serve(house.gate())
    headers = {"Connection": "Upgrade", "Upgrade": "other/1"}
    async with (
        asyncio.timeout(60),
        aiohttp.ClientSession() as client,
        client.get(f"http://ws.test:{port}/", proxy=proxy, headers=headers) as answer,
    ):
        assert (answer.status, await answer.text()) == (426, "upgrade")


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
        asyncio.timeout(60),
        aiohttp.ClientSession() as client,
        client.ws_connect(
            f"https://ws.test:{port}/", proxy=proxy, ssl=trust, headers={"X-Key": gate.env["TOK"]}, compress=15
        ) as socket,
    ):
        assert (await socket.receive()).data == f"you are {'*' * 18}, I know"
