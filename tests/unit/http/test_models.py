"""The list of models."""

from dataclasses import replace

import aiohttp

from carrel.declare.allowlists import Allowlists
from tests.fakes.edge import Edge, bearer, token_of

ACME = bearer(token_of("acme"))


async def test_agents_and_usable_models_are_listed(edge: Edge, client: aiohttp.ClientSession) -> None:
    async with client.get(edge.url + "/v1/models", headers=ACME) as reply:
        body = await reply.json()
    assert body["object"] == "list"
    assert [m["id"] for m in body["data"]] == ["agent:main", "demo", "vendor-large", "claude-large"]
    assert body["data"][1]["context_window"] == 32_768


async def test_one_is_shown_and_what_may_not_be_used_is_not_there(edge: Edge, client: aiohttp.ClientSession) -> None:
    edge.directory.publish(replace(edge.directory.current, allowlists=Allowlists(models=("demo",))))
    for name, status in (("demo", 200), ("agent:main", 200), ("vendor-large", 404), ("a/b", 404), ("agent:x", 404)):
        async with client.get(f"{edge.url}/v1/models/{name}", headers=ACME) as reply:
            assert reply.status == status, name
            if status == 404:
                assert (await reply.json())["error"]["code"] == "model_not_found"


async def test_an_anthropic_clients_header_is_taken_here(edge: Edge, client: aiohttp.ClientSession) -> None:
    async with client.get(edge.url + "/v1/models", headers={"x-api-key": token_of("acme")}) as reply:
        assert reply.status == 200


async def test_a_caller_of_anthropics_api_gets_them_in_its_form_and_pages(
    edge: Edge, client: aiohttp.ClientSession
) -> None:
    headers = {"x-api-key": token_of("acme"), "anthropic-version": "2023-06-01"}

    async def page(query: str) -> tuple[list[str], bool]:
        async with client.get(f"{edge.url}/v1/models{query}", headers=headers) as reply:
            body = await reply.json()
        assert {m["type"] for m in body["data"]} <= {"model"}
        return [m["id"] for m in body["data"]], body["has_more"]

    everything = ["agent:main", "demo", "vendor-large", "claude-large"]
    assert await page("?limit=20") == (everything, False)
    assert await page("?limit=3") == (everything[:3], True)
    assert await page("?limit=3&after_id=vendor-large") == (everything[3:], False)
    assert await page("?limit=2&before_id=claude-large") == (everything[1:3], True)
    for query in ("?limit=0", "?limit=x", "?after_id=nope"):
        async with client.get(f"{edge.url}/v1/models{query}", headers=headers) as reply:
            assert (reply.status, (await reply.json())["type"]) == (400, "error")
    for name, status in (("claude-large", 200), ("demo", 200), ("agent:main", 200), ("nope", 404)):
        async with client.get(f"{edge.url}/v1/models/{name}", headers=headers) as reply:
            assert reply.status == status
            body = await reply.json()
            assert body["type"] == ("model" if status == 200 else "error")
    wrong = {**headers, "x-api-key": "tk_acme_" + "0" * 32}
    async with client.get(edge.url + "/v1/models", headers=wrong) as reply:
        assert (reply.status, (await reply.json())["error"]["type"]) == (401, "authentication_error")
