"""The vendors' APIs as a sandbox finds them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from carrel.declare.gateway import Gateway, ModelConfig, ProviderConfig
from carrel.http.model_hosts import ModelHosts
from carrel.ids import RequestId
from carrel.relay.dialects.chat import ChatFields
from carrel.relay.dialects.protocol import CallFields
from carrel.tenancy.handle import Directory, Snapshot, Tenant
from tests.fakes.edge import FakeMeter
from tests.fakes.egress import EgressHouse, curl, egress_house
from tests.unit.policy.egress.test_rules import asked


class Mirror:
    """A relay that tells what it was given."""

    async def handle(
        self, request: web.BaseRequest, tenant: Tenant, snapshot: Snapshot, request_id: RequestId, body: bytes,
        *, dialect: type[CallFields] = ChatFields,
    ) -> web.StreamResponse:  # fmt: skip
        return web.json_response({"tenant": tenant.id, "path": dialect.path, "body": json.loads(body)})


class Rig:
    """An egress house whose models are served."""

    def __init__(self, house: EgressHouse, meter: FakeMeter) -> None:
        self.house = house
        self.meter = meter

    async def ask(self, method: str, path: str, *, key: str | None = None, body: object = None,
                  host: str = "api.openai.com", more: tuple[str, ...] = ()) -> tuple[int, Any]:  # fmt: skip
        gate = self.house.gate()
        proxy = await self.house.serve(gate)
        words = [*more, "-X", method, "-H", f"Authorization: Bearer {key or gate.env['OPENAI_API_KEY']}"]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        ca = self.house.egress.authority(self.house.tenant.id).certificate
        done = await curl(proxy, f"https://{host}{path}", *words, ca=ca)
        return done.status, json.loads(done.body)


@pytest.fixture
async def rig(tmp_path: Path) -> Any:
    directory, meter = Directory(), FakeMeter()
    models = ModelHosts(directory=directory, relay=Mirror(), meter=meter)
    async with egress_house(tmp_path, models=models) as house:
        gateway = Gateway(
            providers={"vendor": ProviderConfig(kind="openai"), "own": ProviderConfig(
                kind="anthropic", base_url="https://models.internal:8443/v1")},
            models={"gpt-x": ModelConfig(provider="vendor"), "claude-x": ModelConfig(provider="own")},
        )  # fmt: skip
        snapshot = replace(house.directory.current, gateway=gateway)
        house.directory.publish(snapshot)
        directory.publish(snapshot)
        yield Rig(house, meter)


async def test_the_hosts_of_declared_kinds_are_served_and_no_others(rig: Rig) -> None:
    models = rig.house.egress.models
    assert models is not None
    for where in ("api.openai.com:443", "api.anthropic.com:443", "models.internal:8443"):
        assert models.serves(asked(where))
    for where in ("api.openai.com:80", "api.mistral.ai:443", "models.internal:443"):
        assert not models.serves(asked(where))
    assert set(models.variables(rig.house.tenant)) == {"OPENAI_API_KEY", "ANTHROPIC_API_KEY"}


async def test_a_call_with_the_placeholder_goes_to_the_relay_counted(rig: Rig) -> None:
    status, told = await rig.ask("POST", "/v1/chat/completions", body={"model": "gpt-x", "messages": []})
    assert (status, told["tenant"], told["body"]["model"]) == (200, "acme", "gpt-x")
    assert rig.meter.admitted == 1
    status, told = await rig.ask("GET", "/v1/models")
    assert [model["id"] for model in told["data"]] == ["gpt-x"]


async def test_S5_01_another_key_than_this_sandboxs_is_nobodys(rig: Rig) -> None:
    other = rig.house.gate("other").env["OPENAI_API_KEY"]
    for key in ("sk-real-looking", other):
        status, told = await rig.ask("POST", "/v1/chat/completions", key=key, body={"model": "gpt-x"})
        assert (status, told["error"]["code"]) == (401, "unauthorized")
    assert rig.meter.admitted == 0


async def test_what_is_not_served_or_not_a_model_is_told(rig: Rig) -> None:
    assert (await rig.ask("POST", "/v1/files", body={}))[0] == 404
    status, told = await rig.ask("POST", "/v1/chat/completions", body={"model": "gpt-y"})
    assert (status, told["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("host", "path", "model", "below"),
    [
        ("api.openai.com", "/v1/responses", "gpt-x", "/responses"),
        ("api.openai.com", "/v1/embeddings", "gpt-x", "/embeddings"),
        ("api.anthropic.com", "/v1/messages?beta=true", "claude-x", "/v1/messages"),
        ("api.anthropic.com", "/v1/messages/count_tokens", "claude-x", "/v1/messages/count_tokens"),
    ],
)
async def test_each_vendors_endpoints_are_served_in_its_dialect(
    rig: Rig, host: str, path: str, model: str, below: str
) -> None:
    status, told = await rig.ask("POST", path, host=host, body={"model": model})
    assert (status, told["path"], rig.meter.admitted) == (200, below, 1)


async def test_each_vendors_form_of_models_and_errors(rig: Rig) -> None:
    host = "api.anthropic.com"
    status, told = await rig.ask("GET", "/v1/models", host=host)
    assert (status, [model["id"] for model in told["data"]], told["has_more"]) == (200, ["claude-x"], False)
    status, told = await rig.ask("GET", "/v1/models/claude-x", host=host)
    assert (status, told["type"]) == (200, "model")
    for method, path in (("POST", "/v1/files"), ("POST", "/v1/messages/batches"), ("GET", "/v1/models/gpt-x")):
        status, told = await rig.ask(method, path, host=host, body={} if method == "POST" else None)
        assert (status, told["error"]["type"]) == (404, "not_found_error")
    status, told = await rig.ask("POST", "/v1/responses/compact", body={})
    assert (status, told["error"]["code"]) == (404, "not_found")


async def test_a_websocket_is_answered_so_that_clients_go_on_without(rig: Rig) -> None:
    more = ("-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13", "-H",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")  # fmt: skip
    status, told = await rig.ask("GET", "/v1/responses", more=more)
    assert (status, told["error"]["code"]) == (426, "no_websocket")
    assert (await rig.ask("GET", "/v1/responses"))[0] == 404
