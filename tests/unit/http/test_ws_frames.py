"""Clients and nodes that were written for OpenClaw connect, and nobody else does by their way."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from carrel.http import ws_frames
from carrel.ids import TenantId
from tests.fakes.edge import Edge, bearer, running_edge, token_of
from tests.fakes.socket import opened as opened_socket
from tests.unit.wire.test_frames import connect, with_device

WAIT = 60.0


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path) as running:
        yield running


class Client:
    """Frames in the order of coming."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.nonce = ""

    async def next(self, wanted: str) -> dict[str, Any]:
        """The next frame that is the event ``wanted``, or the answer to the request ``wanted``."""
        while True:
            async with asyncio.timeout(WAIT):
                frame = await self.socket.receive_json()
            if wanted in (frame.get("event"), frame.get("id")):
                return dict(frame)

    async def ask(self, number: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        await self.socket.send_json({"type": "req", "id": number, "method": method, "params": params})
        return await self.next(number)

    async def end(self) -> tuple[int | None, str]:
        """How the other side ends it."""
        async with asyncio.timeout(WAIT):
            message = await self.socket.receive()
        return message.data, message.extra or ""


@asynccontextmanager
async def opened(edge: Edge, path: str = "/", **options: Any) -> AsyncIterator[Client]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(edge.url + path, autoclose=False, **options) as socket,
    ):
        client = Client(socket)
        if path == "/":
            client.nonce = (await client.next("connect.challenge"))["payload"]["nonce"]
        yield client


def by(tenant: str, **more: Any) -> dict[str, Any]:
    return connect(auth={"token": token_of(tenant)}, **more)


async def test_a_client_connects_calls_and_hears_what_happens(edge: Edge) -> None:
    async with opened(edge) as client:
        hello = await client.ask("c", "connect", by("acme"))
        assert (hello["ok"], hello["payload"]["type"], hello["payload"]["protocol"]) == (True, "hello-ok", 3)
        assert {"sessions.list", "cron.add"} <= set(hello["payload"]["features"]["methods"])
        assert (await client.ask("1", "tenants.get", {}))["payload"]["tenantId"] == "acme"
        assert (await client.ask("2", "voicewake.set", {"triggers": ["hey"]}))["ok"] is True
        refused = await client.ask("3", "no.such", {})
        assert (refused["ok"], refused["error"]["code"]) == (False, "INVALID_REQUEST")
        assert (await client.ask("4", "connect", by("bravo")))["ok"] is False
        assert (await client.ask("5", "tenants.get", {}))["payload"]["tenantId"] == "acme"
    async with opened(edge) as client:
        await client.ask("c", "connect", by("acme"))
        async with opened(edge) as other:
            await other.ask("c", "connect", by("acme"))
            await other.socket.send_json(
                {"type": "req", "id": "1", "method": "voicewake.set", "params": {"triggers": ["you"]}}
            )
            heard = await client.next("voicewake.changed")
            assert heard["payload"]["triggers"] == ["you"]
            assert isinstance(heard["seq"], int)


async def test_a_device_proves_its_key(edge: Edge) -> None:
    now = int(edge.services.clock.now().timestamp() * 1000)
    async with opened(edge) as client:
        wrong = with_device(nonce=client.nonce, signed_at=now)
        answer = await client.ask("c", "connect", {**wrong, "auth": {"token": token_of("acme")}})
        assert answer["error"]["code"] == "UNAUTHORIZED", "it signed another token"
        assert (await client.end())[0] == 1008


@pytest.mark.parametrize(
    ("params", "code"),
    [
        (connect(auth={"token": "tk_acme_" + "0" * 32}), "UNAUTHORIZED"),
        (connect(auth={}), "UNAUTHORIZED"),
        (connect(auth={"token": "ak_ops_" + "0" * 32}), "UNAUTHORIZED"),
        (by("acme", role="node"), "FORBIDDEN"),
        (by("acme", minProtocol=9, maxProtocol=9), "INVALID_REQUEST"),
    ],
)
async def test_who_is_nobody_is_told_so_and_cut_off(edge: Edge, params: dict[str, Any], code: str) -> None:
    async with opened(edge) as client:
        answer = await client.ask("c", "connect", params)
        assert (answer["ok"], answer["error"]["code"]) == (False, code)
        assert (await client.end())[0] == 1008


async def test_nothing_is_done_for_a_connection_that_says_something_else_first(edge: Edge) -> None:
    for first in ('{"type": "req", "id": "1", "method": "tenants.get"}', "hello", "x" * 70_000):
        async with opened(edge) as client:
            await client.socket.send_str(first)
            assert (await client.next("connect"))["ok"] is False
            assert (await client.end())[0] == 1008


async def test_one_that_says_nothing_is_cut_off(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws_frames, "OPENING_SECONDS", 0.05)
    async with opened(edge) as client:
        assert await client.end() == (1008, "no_connect")


async def test_few_may_be_nobodys_at_a_time(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws_frames, "MOST_OPENING", 1)
    async with opened(edge) as first:
        async with aiohttp.ClientSession() as session, session.ws_connect(edge.url + "/", autoclose=False) as socket:
            refused = await Client(socket).next("connect")
            assert refused["error"]["code"] == "RATE_LIMITED"
        assert (await first.ask("c", "connect", by("acme")))["ok"] is True
        async with opened(edge) as second:
            assert (await second.ask("c", "connect", by("bravo")))["ok"] is True


async def test_a_wrong_token_is_a_failed_attempt_of_its_address(edge: Edge) -> None:
    code = ""
    for _ in range(200):
        async with opened(edge) as client:
            code = (await client.ask("c", "connect", connect(auth={"token": "x"})))["error"]["code"]
        if code == "RATE_LIMITED":
            break
    assert code == "RATE_LIMITED"


@pytest.mark.parametrize("size", [ws_frames.OPENING_BYTES + 1, 3 << 20])
async def test_a_first_frame_that_is_too_large_is_told_so(edge: Edge, size: int) -> None:
    async with opened(edge) as client:
        await client.socket.send_str(" " * size)
        frame = await client.next("connect")
        assert (frame["ok"], frame["error"]["code"]) == (False, "TOO_LARGE")
        assert await client.end() == (1008, "too_large")


async def test_a_large_frame_after_the_first_is_no_strangers(edge: Edge) -> None:
    async with opened(edge) as client:
        padded = by("acme", caps=["x" * 150] * 190)
        assert (await client.ask("c", "connect", padded))["ok"] is True
        for number in ("1", "2"):
            said = await client.ask(number, "no.such", {"content": "x" * (100 << 10)})
            assert "no.such" in said["error"]["message"]


async def test_bytes_are_no_first_frame(edge: Edge) -> None:
    async with opened(edge) as client:
        await client.socket.send_bytes(b"{}")
        assert await client.end() == (1003, "text_only")


async def test_a_revoked_token_ends_it(edge: Edge) -> None:
    async with opened(edge) as client:
        await client.ask("c", "connect", by("acme"))
        edge.tokens.revoke(edge.directory.current.tenant(TenantId("acme")), "default")
        assert await client.end() == (1008, "revoked")


async def test_a_page_of_another_origin_does_not_get_in(edge: Edge) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(edge.url + "/", headers={"Origin": "https://evil.example"})
        assert refused.value.status == 403
        async with session.get(edge.url + "/", allow_redirects=False) as reply:
            assert (reply.status, reply.headers["Location"]) == (303, "/terminal")


async def test_a_node_is_asked_in_its_words(edge: Edge) -> None:
    async with opened_socket(edge.url, token_of("acme"), "?events=none") as owner:
        asked = await owner.call("node.pair.request", {"displayName": "phone"})
        await owner.call("node.pair.approve", {"requestId": asked["requestId"]})
        claim = {"requestId": asked["requestId"], "secret": asked["secret"]}
        paired = await owner.call("node.pair.verify", claim)
        async with opened(edge) as node:
            hello = await node.ask(
                "c", "connect",
                connect(role="node", commands=["notify"], caps=["system"], auth={"token": paired["token"]}),
            )  # fmt: skip
            assert hello["ok"] is True
            assert (await node.ask("1", "sessions.list", {}))["error"]["code"] == "FORBIDDEN"
            call = {"nodeId": paired["deviceId"], "command": "notify", "params": {"body": "x"}}
            sent = await owner.send("node.invoke", call)
            ask = (await node.next("node.invoke.request"))["payload"]
            assert (ask["nodeId"], json.loads(ask["paramsJSON"])) == (paired["deviceId"], {"body": "x"})
            result = {"id": ask["id"], "nodeId": ask["nodeId"], "ok": True, "payloadJSON": '{"shown": true}'}
            assert (await node.ask("2", "node.invoke.result", result))["ok"] is True
            assert (await owner.answer(sent))["payload"] == {"shown": True}
        while (await owner.call("node.describe", {"nodeId": paired["deviceId"]}))["connected"]:
            pass


async def test_the_first_frame_tells_them_apart_where_the_credential_came_before(edge: Edge) -> None:
    async with opened(edge, "/ws", headers=bearer(token_of("acme"))) as client:
        assert (await client.ask("c", "connect", connect(auth={})))["payload"]["type"] == "hello-ok"
        assert (await client.ask("1", "tenants.get", {}))["payload"]["tenantId"] == "acme"
    async with opened(edge, "/ws", headers=bearer(token_of("acme"))) as client:
        assert (await client.ask("connect", "tenants.get", {}))["ok"] is False
        assert (await client.end())[0] == 1008
