"""The control plane of quotas."""

from typing import Any

import aiohttp

from tests.fakes.edge import ADMIN_KEY, READER_KEY, Edge, bearer, token_of


async def send(
    edge: Edge, client: aiohttp.ClientSession, method: str, path: str, body: Any = None, *, key: str = ADMIN_KEY
) -> tuple[int, Any]:
    async with client.request(method, edge.url + path, json=body, headers=bearer(key)) as reply:
        return reply.status, await reply.json(content_type=None)


async def call(edge: Edge, client: aiohttp.ClientSession, method: str, params: Any, tenant: str = "acme") -> Any:
    order = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    _, told = await send(edge, client, "POST", "/rpc", order, key=token_of(tenant))
    return told.get("result", told.get("error"))


async def test_a_tenant_asks_and_the_operator_decides(edge: Edge, client: aiohttp.ClientSession) -> None:
    asked = await call(edge, client, "tenants.quota.request", {"quota": "tokens_per_day", "limit": "77"})
    await call(edge, client, "tenants.quota.request", {"quota": "disk_bytes", "limit": "5"}, "bravo")
    assert asked["state"] == "waiting"
    _, listed = await send(edge, client, "GET", "/v1/quota-requests")
    assert [(one["tenant"], one["quota"]) for one in listed["requests"]] == [
        ("bravo", "disk_bytes"), ("acme", "tokens_per_day")
    ]  # fmt: skip
    _, first = await send(edge, client, "GET", "/v1/quota-requests?limit=1")
    _, second = await send(edge, client, "GET", f"/v1/quota-requests?limit=1&cursor={first['next']}")
    assert [one["tenant"] for one in (*first["requests"], *second["requests"])] == ["bravo", "acme"]
    assert second["next"] is None
    path = f"/v1/tenants/acme/quota/requests/{asked['id']}/decision"
    assert (await send(edge, client, "POST", path, {"decision": "approve"}, key=READER_KEY))[0] == 403
    status, decided = await send(edge, client, "POST", path, {"decision": "approve", "limit": "66"})
    assert (status, decided["state"], decided["granted"]) == (200, "approved", "66")
    administration: Any = edge.services.administration
    assert administration.asked == [("quota ['tokens_per_day']", "acme", "ak_ops")]
    assert (await send(edge, client, "POST", path, {"decision": "approve"}))[0] == 409
    told = await call(edge, client, "tenants.quota.requests", {})
    assert [(one["state"], one["granted"]) for one in told["requests"]] == [("approved", "66")]


async def test_another_tenants_requests_are_not_seen(edge: Edge, client: aiohttp.ClientSession) -> None:
    asked = await call(edge, client, "tenants.quota.request", {"quota": "tokens_per_day", "limit": "77"})
    assert (await call(edge, client, "tenants.quota.requests", {}, "bravo"))["requests"] == []
    path = f"/v1/tenants/bravo/quota/requests/{asked['id']}/decision"
    assert (await send(edge, client, "POST", path, {"decision": "reject"}))[0] == 404
    assert (await send(edge, client, "GET", "/v1/tenants/acme/quota/requests", key=token_of("bravo")))[0] == 404
    own = await send(edge, client, "GET", "/v1/tenants/acme/quota/requests", key=token_of("acme"))
    assert len(own[1]["requests"]) == 1


async def test_what_cannot_be_asked_for(edge: Edge, client: aiohttp.ClientSession) -> None:
    for params in (
        {"quota": "wishes", "limit": "3"}, {"quota": "tokens_per_day", "limit": "-1"},
        {"quota": "tokens_per_day", "limit": "1e9"}, {"quota": "tokens_per_day", "limit": "1.5"},
    ):  # fmt: skip
        assert (await call(edge, client, "tenants.quota.request", params))["code"] == -32602
    assert (await send(edge, client, "GET", "/v1/quota-requests?limit=0"))[0] == 400
    assert (await send(edge, client, "GET", "/v1/quota-requests?cursor=zzz"))[0] == 400


async def test_a_resize(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, _ = await send(edge, client, "POST", "/v1/tenants/acme/resize", {"plan": "pro", "cpus": None})
    assert status == 200
    administration: Any = edge.services.administration
    assert administration.asked == [("resize {'plan': 'pro', 'cpus': None}", "acme", "ak_ops")]
    assert (await send(edge, client, "POST", "/v1/tenants/acme/resize", {"pids": 1}))[0] == 400
