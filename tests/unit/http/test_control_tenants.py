"""The control plane of tenants."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from carrel.declare.tenant import Member, SandboxConfig
from carrel.ids import TenantId
from tests.fakes.edge import ADMIN_KEY, READER_KEY, Edge, bearer, quota, token_of

Ask = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
def ask(edge: Edge, client: aiohttp.ClientSession) -> Ask:
    async def send(method: str, path: str, body: Any = None, *, key: str = ADMIN_KEY) -> tuple[int, Any]:
        async with client.request(method, edge.url + path, json=body, headers=bearer(key)) as reply:
            text = await reply.text()
            return reply.status, await reply.json(content_type=None) if text.startswith(("{", "[")) else text

    return send


async def test_list_show_suspend_and_resume(edge: Edge, ask: Ask) -> None:
    _, listed = await ask("GET", "/v1/tenants")
    assert [t["id"] for t in listed["tenants"]] == ["acme", "bravo"]
    assert (await ask("GET", "/v1/tenants/acme"))[1]["state"] == "active"
    assert (await ask("POST", "/v1/tenants/acme/suspend"))[1]["state"] == "suspended"
    status, body = await ask("GET", "/v1/models", key=token_of("acme"))
    assert (status, body["error"]["code"]) == (403, "tenant_suspended")
    assert (await ask("POST", "/v1/tenants/acme/resume"))[1]["state"] == "active"
    assert (await ask("GET", "/v1/models", key=token_of("acme")))[0] == 200
    administration: Any = edge.services.administration
    assert administration.asked == [("suspend", "acme", "ak_ops"), ("resume", "acme", "ak_ops")]


async def test_create_and_remove(edge: Edge, ask: Ask) -> None:
    status, made = await ask("POST", "/v1/tenants", {"id": "new", "plan": "pro"})
    assert (status, made["token"]) == (201, "tk_new_" + "f" * 32)
    status, problem = await ask("POST", "/v1/tenants", {"id": "acme"})
    assert (status, problem["code"]) == (409, "conflict")
    for body, param in (({"id": "NO"}, "id"), ({}, "id"), ({"id": "x", "more": 1}, "more")):
        status, problem = await ask("POST", "/v1/tenants", body)
        assert (status, problem["param"]) == (400, param)
    assert (await ask("DELETE", "/v1/tenants/acme"))[1]["data_kept"] is True
    assert (await ask("DELETE", "/v1/tenants/acme?purge=true"))[1]["data_kept"] is False
    assert (await ask("DELETE", "/v1/tenants/acme?purge=yes"))[0] == 400


async def test_tokens(ask: Ask) -> None:
    status, issued = await ask("POST", "/v1/tenants/acme/tokens", {"name": "ci", "scopes": ["chat"]})
    assert (status, issued["scopes"]) == (201, ["chat"])
    status, listed = await ask("GET", "/v1/tenants/acme/tokens")
    assert listed["tokens"][0]["prefix"] == "tk_acme_eeeeeeee"
    assert issued["token"] not in str(listed)
    assert (await ask("POST", "/v1/tenants/acme/tokens/rotate"))[0] == 200
    assert (await ask("DELETE", "/v1/tenants/acme/tokens/ci"))[0] == 204
    assert (await ask("DELETE", "/v1/tenants/acme/tokens/ci"))[0] == 404
    assert (await ask("POST", "/v1/tenants/acme/tokens", {"name": "ci", "scopes": ["root"]}))[0] == 400


async def test_quotas(edge: Edge, ask: Ask) -> None:
    edge.meter.quotas = [quota("cost_per_day_usd", Decimal("1.25"), hard=Decimal(5))]
    for key in (ADMIN_KEY, token_of("acme")):
        _, shown = await ask("GET", "/v1/tenants/acme/quota", key=key)
        assert (shown["quotas"][0]["used"], shown["quotas"][0]["hard"]) == ("1.25", "5")
    assert (await ask("PATCH", "/v1/tenants/acme/quota", {"tokens_per_day": 5, "cost_per_day_usd": None}))[0] == 200
    assert (await ask("PATCH", "/v1/tenants/acme/quota", {"tokens_per_day": -1}))[0] == 400
    administration: Any = edge.services.administration
    assert administration.asked == [("quota ['cost_per_day_usd', 'tokens_per_day']", "acme", "ak_ops")]


async def test_usage_as_json_and_csv(ask: Ask) -> None:
    _, report = await ask("GET", "/v1/tenants/acme/usage?period=2026-03-01..2026-03-02", key=token_of("acme"))
    assert (report["first"], report["last"], report["total_cost_usd"]) == ("2026-03-01", "2026-03-02", "0.000123")
    _, text = await ask("GET", "/v1/tenants/acme/usage?period=today&format=csv")
    assert text.splitlines() == [
        "date,tenant,model,tokens_in,tokens_out,tokens_cached,reasoning_tokens,tool_calls,cost_usd",
        "2026-03-01,acme,demo,10,5,1,0,2,0.000123",
    ]
    for query in ("period=nonsense", "format=xml"):
        status, problem = await ask("GET", f"/v1/tenants/acme/usage?{query}")
        assert (status, problem["code"]) == (400, "invalid_request")


async def test_rpc_on_a_tenants_behalf(edge: Edge, ask: Ask) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tenants.get"}
    status, answer = await ask("POST", "/v1/tenants/bravo/rpc", call)
    assert (status, answer["result"]["tenantId"]) == (200, "bravo")
    await ask("POST", "/v1/tenants/bravo/suspend")
    status, answer = await ask("POST", "/v1/tenants/bravo/rpc", call)
    assert (status, answer["error"]["data"]["code"]) == (403, "tenant_suspended")


async def test_rpc_as_a_member(edge: Edge, ask: Ask) -> None:
    acme = edge.directory.current.tenant(TenantId("acme"))
    more = {"members": (Member(name="ada"),), "sandbox": SandboxConfig(scope="member")}
    edge.publish(replace(acme, config=acme.config.model_copy(update=more)))
    make = {"jsonrpc": "2.0", "id": 1, "method": "sessions.create", "params": {"sessionId": "adas"}}
    assert (await ask("POST", "/v1/tenants/acme/rpc?member=ada", make))[1]["result"]["sessionId"] == "adas"
    call = {"jsonrpc": "2.0", "id": 1, "method": "sessions.list"}
    for query, count in (("?member=ada", 1), ("", 0)):
        assert (await ask("POST", f"/v1/tenants/acme/rpc{query}", call))[1]["result"]["count"] == count
    assert (await ask("POST", "/v1/tenants/acme/rpc?member=adda", call))[0] == 400


async def test_a_reading_key_changes_nothing(edge: Edge, ask: Ask) -> None:
    assert (await ask("GET", "/v1/tenants", key=READER_KEY))[0] == 200
    for method, path in (
        ("POST", "/v1/tenants"), ("DELETE", "/v1/tenants/acme"), ("POST", "/v1/tenants/acme/suspend"),
        ("POST", "/v1/tenants/acme/tokens"), ("PATCH", "/v1/tenants/acme/quota"), ("POST", "/v1/tenants/acme/rpc"),
    ):  # fmt: skip
        assert (await ask(method, path, {}, key=READER_KEY))[0] == 403, path
    administration: Any = edge.services.administration
    assert administration.asked == []


async def test_a_report_is_split_for_operators_alone(edge: Edge, ask: Ask) -> None:
    status, told = await ask("GET", "/v1/tenants/acme/usage?by=session")
    assert (status, told["rows"][0]["key"]) == (200, "a-session")
    assert (await ask("GET", "/v1/tenants/acme/usage?by=model"))[1]["rows"][0]["key"] is None
    assert (await ask("GET", "/v1/tenants/acme/usage?by=session", key=token_of("acme")))[0] == 403
    assert (await ask("GET", "/v1/tenants/acme/usage?by=model", key=token_of("acme")))[0] == 200
    assert (await ask("GET", "/v1/tenants/acme/usage?by=colour"))[0] == 400
