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
    assert [m["id"] for m in body["data"]] == ["agent:main", "demo", "vendor-large"]
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
