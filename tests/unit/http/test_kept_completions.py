"""Kept chat completions at the gateway's own edge; all else of them is in the contract with the SDK."""

from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from carrel.errors import StorageFailed
from carrel.http.kept_completions import keeper
from tests.fakes.edge import Edge, bearer, token_of

ACME, BRAVO = bearer(token_of("acme")), bearer(token_of("bravo"))


async def ask(
    edge: Edge, client: aiohttp.ClientSession, method: str, path: str = "", headers: dict[str, str] = ACME, **body: Any
) -> tuple[int, Any]:
    url = f"{edge.url}/v1/chat/completions{path}"
    async with client.request(method, url, json=body or None, headers=headers) as reply:
        return reply.status, await reply.json()


async def made(edge: Edge, client: aiohttp.ClientSession) -> str:
    messages = [{"role": "user", "content": "hi"}]
    status, answer = await ask(edge, client, "POST", model="demo", messages=messages, store=True)
    assert status == 200
    return str(answer["id"])


async def test_it_is_the_tenants_own(edge: Edge, client: aiohttp.ClientSession) -> None:
    path = f"/{await made(edge, client)}"
    for method, where in (("GET", path), ("DELETE", path), ("GET", f"{path}/messages")):
        assert (await ask(edge, client, method, where, BRAVO))[0] == 404
    assert (await ask(edge, client, "POST", path, BRAVO, metadata={}))[0] == 404
    assert (await ask(edge, client, "GET", "", BRAVO))[1]["data"] == []
    assert (await ask(edge, client, "GET", path))[0] == 200


async def test_two_requests_of_one_id_are_two_completions(edge: Edge, client: aiohttp.ClientSession) -> None:
    same = {**ACME, "X-Request-Id": "mine"}
    body: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "store": True}
    ids = {(await ask(edge, client, "POST", "", same, **body))[1]["id"] for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("query", "param"), [("?limit=101", "limit"), ("?order=up", "order"), ("?after=x", "after")]
)  # fmt: skip
async def test_bad_queries_are_named(edge: Edge, client: aiohttp.ClientSession, query: str, param: str) -> None:
    path = f"/{await made(edge, client)}/messages"
    for where in (query, path + query):
        status, body = await ask(edge, client, "GET", where)
        assert (status, body["error"]["param"]) == (400, param)


async def test_what_cannot_be_kept_is_said_before_its_caller_has_it(
    edge: Edge, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    responses = edge.services.responses
    assert responses is not None

    async def refuse(*_: object) -> None:
        raise StorageFailed("The disk is full.")

    monkeypatch.setattr(responses.completions, "keep", refuse)
    messages = [{"role": "user", "content": "hi"}]
    status, body = await ask(edge, client, "POST", model="demo", messages=messages, store=True)
    assert (status, body["error"]["code"]) == (503, "storage_failed")


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b'{"store": true}', True), (b'{"store"\n:true}', True), (b'{"st\\u006Fr\\u0065" : true}', True),
        (b'{"store": false}', False), (b'{"messages": [{"store": true}]}', False),
        (b'{"x": "the store is open"}', False),
    ],
)  # fmt: skip
async def test_what_is_to_be_kept_is_seen_however_it_is_written(edge: Edge, body: bytes, kept: bool) -> None:
    exchange: Any = SimpleNamespace(services=edge.services)
    tenant = next(t for t in edge.directory.current.tenants.values() if t.id == "acme")
    assert (keeper(exchange, tenant, body) is not None) == kept
