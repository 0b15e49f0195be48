"""A request to a model or an agent: its way, and what is asked in its place where it fails."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from carrel.declare.gateway import ModelConfig
from carrel.errors import InvalidRequest, UpstreamError
from carrel.http.model_calls import model_in, naming
from carrel.providers.demo import DemoProvider
from carrel.providers.protocol import Provider
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire.conversation import ModelEvent, ModelRequest
from tests.fakes.edge import Edge, bearer, chat_body, running_edge, token_of

ACME = bearer(token_of("acme"))
PATH = "/v1/chat/completions"


def test_the_model_is_read_wherever_it_stands() -> None:
    assert model_in(b' {"model" : "a-b" , "x": 1}') == "a-b"
    assert model_in(b'{"messages":[{"model":"inner"}],"model":"outer"}') == "outer"
    assert model_in(b'{"model":"\\u0061gent:main"}') == "agent:main"
    with pytest.raises(InvalidRequest):
        model_in(b'{"model":""}')


def test_another_model_is_named_in_the_bodys_own_bytes() -> None:
    body = b'{"x": 1.0, "model" : "a", "y":[1, 2]}'
    assert naming(body, "a") is body
    assert naming(body, "b") == b'{"x": 1.0, "model" : "b", "y":[1, 2]}'
    with pytest.raises(InvalidRequest, match="twice"):
        naming(b'{"model":"a","model":"a"}', "b")


class Failing:
    """A provider that is down, with the others beside it."""

    name = "claude"

    def __init__(self, error: UpstreamError) -> None:
        self.error = error

    def get(self, snapshot: Snapshot, tenant: Tenant, name: str) -> Provider:
        return self if name == "claude" else DemoProvider()

    def hedge(self, snapshot: Snapshot, tenant: Tenant, model: str) -> None:
        return None

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        none: list[ModelEvent] = []
        for event in none:
            yield event
        raise self.error

    async def close(self) -> None:
        return


def declare(edge: Edge, *fallbacks: str) -> None:
    current = edge.directory.current
    models = {**current.gateway.models, "claude-large": ModelConfig(provider="claude", fallbacks=fallbacks)}
    edge.directory.publish(replace(current, gateway=current.gateway.model_copy(update={"models": models})))


async def test_a_models_fallbacks_are_asked_in_order_whatever_their_dialect(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    async with running_edge(tmp_path, providers=Failing(UpstreamError("down", status=503))) as edge:
        declare(edge, "claude-large", "not-there", "vendor-large", "demo")
        async with client.post(edge.url + PATH, data=chat_body("hi", model="claude-large"), headers=ACME) as reply:
            assert reply.status == 200
        assert json.loads(edge.relay.bodies[-1])["model"] == "vendor-large"
        edge.relay.error = UpstreamError("down too", status=529)
        async with client.post(
            edge.url + PATH, data=chat_body("hi", model="claude-large", stream=True), headers=ACME
        ) as reply:
            assert reply.status == 200
            assert reply.headers["X-Carrel-Model"] == "demo"
            assert "demo provider" in "".join(
                json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                for line in (await reply.text()).splitlines()
                if line.startswith("data: {")
            )
        assert [r.call.model for r in edge.meter.reservations] == ["claude-large", "claude-large", "demo"]
        assert [r.settled[0][1] for r in edge.meter.reservations] == ["error", "error", "ok"]


async def test_what_the_caller_did_wrong_is_wrong_everywhere(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    async with running_edge(tmp_path, providers=Failing(UpstreamError("bad", status=400))) as edge:
        declare(edge, "demo")
        async with client.post(edge.url + PATH, data=chat_body("hi", model="claude-large"), headers=ACME) as reply:
            assert reply.status == 400
        declare(edge)
        async with client.post(edge.url + PATH, data=chat_body("hi", model="claude-large"), headers=ACME) as reply:
            assert reply.status == 400


@pytest.mark.parametrize("model", ["agent:main", "demo"])
@pytest.mark.parametrize("path", [PATH, "/v1/messages"])
async def test_a_key_that_is_there_twice_is_refused_whichever_way_the_request_goes(
    edge: Edge, client: aiohttp.ClientSession, model: str, path: str
) -> None:
    body = json.dumps({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]})
    async with client.post(edge.url + path, data=body[:-1] + ', "model": "another"}', headers=ACME) as reply:
        assert (reply.status, "twice" in await reply.text()) == (400, True)
    assert not edge.meter.reservations
    async with client.post(edge.url + path, data=body, headers=ACME) as reply:
        assert reply.status == 200
