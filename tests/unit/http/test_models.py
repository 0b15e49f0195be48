"""The list of models."""

from dataclasses import replace

import aiohttp

from carrel.declare.allowlists import Allowlists
from carrel.declare.gateway import ModelConfig, ProviderConfig
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


async def test_a_caller_of_anthropics_api_gets_its_models_in_its_form(
    edge: Edge, client: aiohttp.ClientSession
) -> None:
    snapshot = edge.directory.current
    providers = {**snapshot.gateway.providers, "claude": ProviderConfig(kind="anthropic")}
    models = {**snapshot.gateway.models, "claude-x": ModelConfig(provider="claude")}
    gateway = snapshot.gateway.model_copy(update={"providers": providers, "models": models})
    edge.directory.publish(replace(snapshot, gateway=gateway))
    headers = {"x-api-key": token_of("acme"), "anthropic-version": "2023-06-01"}
    async with client.get(edge.url + "/v1/models?limit=20", headers=headers) as reply:
        body = await reply.json()
    assert [(m["type"], m["id"]) for m in body["data"]] == [("model", "claude-x")]
    assert (body["has_more"], body["last_id"]) == (False, "claude-x")
    for name, status in (("claude-x", 200), ("demo", 404), ("agent:main", 404)):
        async with client.get(f"{edge.url}/v1/models/{name}", headers=headers) as reply:
            assert reply.status == status
            body = await reply.json()
            assert body["type"] == ("model" if status == 200 else "error")
    wrong = {**headers, "x-api-key": "tk_acme_" + "0" * 32}
    async with client.get(edge.url + "/v1/models", headers=wrong) as reply:
        assert (reply.status, (await reply.json())["error"]["type"]) == (401, "authentication_error")
