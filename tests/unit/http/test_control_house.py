"""The control plane of the house."""

from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest

from carrel.ids import TenantId
from tests.fakes.edge import ADMIN_KEY, Edge, bearer


async def get(edge: Edge, client: aiohttp.ClientSession, path: str, method: str = "GET") -> tuple[int, Any]:
    async with client.request(method, edge.url + path, headers=bearer(ADMIN_KEY)) as reply:
        return reply.status, await reply.json(content_type=None)


async def test_status_plan_and_reconcile(edge: Edge, client: aiohttp.ClientSession) -> None:
    assert (await get(edge, client, "/v1/status"))[1] == {
        "version": "1.2.3", "tenants": 2, "userland": "host", "channels": [],
    }  # fmt: skip
    assert (await get(edge, client, "/v1/plan"))[1] == {"actions": []}
    observed = (await get(edge, client, "/v1/observed"))[1]
    assert {name: observed[name] for name in ("revision", "operators", "tenants")} == {
        "revision": "", "operators": {}, "tenants": {},
    }  # fmt: skip
    assert (await get(edge, client, "/v1/reconcile", "POST"))[0] == 200
    reconciler: Any = edge.services.reconciler
    assert (reconciler.reconciled, reconciler.asked) == (1, (None, None))
    assert (await get(edge, client, "/v1/reconcile?tenant=acme&confirm=0123456789ab", "POST"))[0] == 200
    assert reconciler.asked == ("acme", "0123456789ab")
    assert (await get(edge, client, "/v1/reconcile?tenant=No%20One", "POST"))[0] == 400
    status, shown = await get(edge, client, "/v1/tenants/acme/status")
    assert (status, shown["state"], shown["conditions"][0]["type"]) == (200, "Ready", "Ready")


async def test_the_audit_log_in_pages(edge: Edge, client: aiohttp.ClientSession) -> None:
    _, first = await get(edge, client, "/v1/audit?limit=6")
    assert (len(first["lines"]), first["next"]) == (6, "5")
    _, rest = await get(edge, client, f"/v1/audit?limit=6&cursor={first['next']}")
    assert (await get(edge, client, f"/v1/audit?limit=6&after={first['next']}"))[1] == rest
    assert (len(rest["lines"]), rest["next"]) == (4, None)
    _, mine = await get(edge, client, "/v1/audit?tenant=acme")
    assert {line["tenant"] for line in mine["lines"]} == {"acme"}
    _, last = await get(edge, client, "/v1/audit?order=newest&limit=2")
    assert ([line["n"] for line in last["lines"]], last["next"]) == ([9, 8], "8")
    for limit in ("0", "1001", "x", "-1", "9" * 5000):
        assert (await get(edge, client, f"/v1/audit?limit={limit}"))[0] == 400, limit


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("order=up", "`order`"), ("since=2026-03-01T00:00:00", "`since`"), ("tennant=acme", "`tennant`"),
        ("tenant=acme&tenant=bravo", "`tenant` is there twice"),
    ],
)  # fmt: skip
async def test_a_query_that_is_none_is_refused_by_its_name(
    edge: Edge, client: aiohttp.ClientSession, query: str, said: str
) -> None:
    status, told = await get(edge, client, f"/v1/audit?{query}")
    assert (status, said in told["detail"]) == (400, True), told


async def test_the_signed_ends(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, told = await get(edge, client, "/v1/audit/ends")
    assert (status, told["key"], told["days"]) == (200, "0" * 16, [])


async def test_prices_and_plans(edge: Edge, client: aiohttp.ClientSession) -> None:
    _, card = await get(edge, client, "/v1/rate-card")
    assert card["rate_card"]["markup"] == "1.25"
    assert card["rate_card"]["models"]["demo"]["input"] == "1"
    assert (await get(edge, client, "/v1/plans"))[1] == {"plans": {}, "hashes": {}}


async def test_of_tenants_only_how_they_stand(edge: Edge, client: aiohttp.ClientSession, monkeypatch: Any) -> None:
    stands = await edge.services.reconciler.tenant_status(TenantId("acme"))
    brief = {"id": "acme", "state": "Ready", "reason": "Applied", "message": "in force"}

    async def status() -> object:
        return {"state": "Ready", "tenants": (stands,)}

    async def briefly() -> tuple[object, Sequence[object]]:
        return {"state": "Ready"}, (brief,)

    monkeypatch.setattr(edge.services.reconciler, "status", status)
    monkeypatch.setattr(edge.services.reconciler, "briefly", briefly)
    assert (await get(edge, client, "/v1/status"))[1]["tenants"][0]["conditions"]
    told = (await get(edge, client, "/v1/status?brief=true"))[1]
    assert (told["state"], told["tenants"]) == ("Ready", [brief])
