"""`grants.*`."""

from typing import Any

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
