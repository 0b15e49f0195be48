"""`/mcp/{server}` at the edge: who may, and in whose words a refusal is."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from carrel.declare.tenant import Member
from tests.fakes.edge import Edge, bearer, running_edge, token_of
from tests.fakes.mcp import McpHouse, mcp_house

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add"}}


@pytest.fixture
async def house() -> AsyncIterator[McpHouse]:
    async with mcp_house() as made:
        yield made


@pytest.fixture
async def edge(tmp_path: Path, house: McpHouse) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path, mcp=house.proxy) as running:
        acme = next(one for one in running.directory.current.tenants.values() if one.id == "acme")
        members = (Member(name="eve", role="viewer"),)
        config = acme.config.model_copy(update={"mcp_servers": {"notes": house.server()}, "members": members})
        running.publish(replace(acme, config=config))
        yield running


async def ask(edge: Edge, method: str, token: str | None, **headers: str) -> tuple[int, Any]:
    sent = {**(bearer(token) if token else {}), **headers}
    async with (
        aiohttp.ClientSession() as client,
        client.request(method, f"{edge.url}/mcp/notes", json=CALL if method == "POST" else None, headers=sent) as reply,
    ):
        return reply.status, await reply.json(content_type=None)


async def test_a_tenants_token_with_chat_is_served_and_does_not_go_on(edge: Edge, house: McpHouse) -> None:
    status, told = await ask(edge, "POST", token_of("acme"))
    assert (status, "result" in told) == (200, True)
    assert token_of("acme") not in str(house.requests)
    assert (await ask(edge, "DELETE", token_of("acme")))[0] == 200


async def test_who_is_not(edge: Edge, house: McpHouse) -> None:
    edge.tokens.add("tk_acme_" + "7" * 32, "acme", scopes=("rpc",))
    edge.tokens.add("tk_acme_" + "8" * 32, "acme", member="eve")
    for token, status, code in (
        (None, 401, "unauthorized"), ("tk_acme_" + "9" * 32, 401, "unauthorized"),
        ("tk_acme_" + "7" * 32, 403, "forbidden"), ("tk_acme_" + "8" * 32, 403, "forbidden"),
        (token_of("bravo"), 404, "not_found"),
    ):  # fmt: skip
        given, told = await ask(edge, "POST", token)
        assert (given, told["error"]["data"]["code"]) == (status, code)
    assert (await ask(edge, "POST", token_of("acme"), Origin="https://evil.example"))[0] == 403
    assert house.requests == []
    assert (await ask(edge, "POST", token_of("acme"), Origin=edge.url))[0] == 200


async def test_S1_03_a_standing_stream_ends_with_its_token(edge: Edge, house: McpHouse) -> None:
    over = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: 1\n\n")
        await over.wait()
        return answer

    house.answer = stream
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"{edge.url}/mcp/notes", headers=bearer(token_of("acme"))) as reply,
    ):
        assert await reply.content.readuntil(b"\n\n") == b"data: 1\n\n"
        edge.tokens.end(token_of("acme"))
        with pytest.raises(aiohttp.ClientError):
            await reply.content.read()
    over.set()
