"""`grants.*`."""

from typing import Any

from carrel.ids import TenantId
from carrel.wire import rpc as wire
from tests.fakes.edge import Edge
from tests.unit.http.rpc.conftest import Rpc


async def test_what_is_asked_and_decided(rpc: Rpc, edge: Edge) -> None:
    (grant,) = (await rpc("grants.list"))["grants"]
    assert (grant["id"], grant["state"]) == ("gr_1", "waiting")
    assert (await rpc("grants.decide", {"grant": "gr_1", "decision": "1h"}))["decision"] == "1h"
    access: Any = edge.services.access
    assert access.operator is False, "a tenant's token is no operator, whatever its scope"


async def test_what_is_not_there_or_no_decision(rpc: Rpc) -> None:
    assert (await rpc("grants.decide", {"grant": "gr_2", "decision": "1h"}))["data"]["code"] == "not_found"
    assert (await rpc("grants.decide", {"grant": "gr_1", "decision": "1h"}, tenant="bravo"))["data"][
        "code"
    ] == "not_found"
    assert (await rpc("grants.decide", {"grant": "gr_1", "decision": "forever"}))["code"] == -32602


async def test_requests_come_in_pages(rpc: Rpc, edge: Edge) -> None:
    access: Any = edge.services.access
    (first,) = (await access.list(edge.directory.current.tenants[TenantId("acme")])).grants
    second = first.model_copy(update={"id": "gr_2"})

    async def both(tenant: object) -> wire.GrantList:
        return wire.GrantList(grants=(second, first))

    access.list = both
    page = await rpc("grants.list", {"limit": 1})
    assert [one["id"] for one in page["grants"]] == ["gr_1"]
    page = await rpc("grants.list", {"limit": 1, "cursor": page["next"]})
    assert ([one["id"] for one in page["grants"]], "next" in page) == (["gr_2"], False)
