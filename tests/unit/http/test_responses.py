"""`/v1/responses` at the gateway's own edge."""

from typing import Any

import aiohttp
import pytest

from tests.fakes.edge import Edge, bearer, token_of

ACME, BRAVO = bearer(token_of("acme")), bearer(token_of("bravo"))


async def ask(
    edge: Edge, client: aiohttp.ClientSession, method: str, path: str, headers: dict[str, str] = ACME, **body: Any
) -> tuple[int, Any]:
    sent = body or None
    async with client.request(method, f"{edge.url}/v1/responses{path}", json=sent, headers=headers) as reply:
        return reply.status, await reply.json()


async def test_it_is_the_tenants_own(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, made = await ask(edge, client, "POST", "", model="demo", input="hi")
    assert (status, made["status"], made["store"]) == (200, "completed", True)
    path = f"/{made['id']}"
    assert (await ask(edge, client, "GET", path))[1] == made
    for method, where in (("GET", path), ("DELETE", path), ("POST", f"{path}/cancel"), ("GET", f"{path}/input_items")):
        assert (await ask(edge, client, method, where, BRAVO))[0] == 404
    assert (await ask(edge, client, "DELETE", path))[1] == {
        "id": made["id"], "object": "response.deleted", "deleted": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("?stream=true&starting_after=x", "starting_after"), ("/input_items?limit=0", "limit"),
        ("/input_items?order=up", "order"), ("/input_items?after=nope", "after"),
    ],
)  # fmt: skip
async def test_bad_queries_are_named(edge: Edge, client: aiohttp.ClientSession, query: str, param: str) -> None:
    _, made = await ask(edge, client, "POST", "", model="demo", input="hi")
    status, body = await ask(edge, client, "GET", f"/{made['id']}{query}")
    assert (status, body["error"]["param"]) == (400, param)


async def test_what_cannot_be_carried_is_said_before_anything_is_begun(
    edge: Edge, client: aiohttp.ClientSession
) -> None:
    status, body = await ask(edge, client, "POST", "", model="demo", input="hi", background=True, top_logprobs=3)
    assert (status, body["error"]["param"]) == (400, "top_logprobs")
    assert edge.meter.reservations == []
