"""`tenants.quota.request`, and what becomes of it."""

from typing import Any

import aiohttp

from tests.fakes.edge import Edge, bearer, token_of


async def test_one_key_is_one_request(edge: Edge, client: aiohttp.ClientSession) -> None:
    async def call(method: str, params: dict[str, Any]) -> Any:
        order = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        async with client.post(edge.url + "/rpc", json=order, headers=bearer(token_of("acme"))) as reply:
            return (await reply.json())["result"]

    params = {"quota": "tokens_per_day", "limit": "5", "reason": "a launch", "idempotencyKey": "k1"}
    first = await call("tenants.quota.request", params)
    assert await call("tenants.quota.request", params) == first
    assert [one["id"] for one in (await call("tenants.quota.requests", {}))["requests"]] == [first["id"]]
    assert first["askedBy"].startswith("tk_acme_")
