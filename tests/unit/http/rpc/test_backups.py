"""`tenants.backup`, `tenants.backups.list` and `tenants.restore`."""

from typing import Any

from carrel.objects.protocol import StoreRefused
from tests.fakes.edge import Edge
from tests.unit.http.rpc.conftest import Rpc

KEY = "acme/manifests/20260301T120000Z-00000001"


async def test_made_listed_and_brought_back(rpc: Rpc, edge: Edge) -> None:
    made = await rpc("tenants.backup")
    assert made == {"key": KEY, "tenantId": "acme", "timestamp": 1772366400000, "size": 5 << 20}
    assert [one["key"] for one in (await rpc("tenants.backups.list"))["backups"]] == [KEY]
    assert (await rpc("tenants.restore", {"key": KEY}))["sourceKey"] == KEY
    backups: Any = edge.services.backups
    assert backups.done == ["back up acme None False", "restore None None False False"]


async def test_S4_03_a_tenant_names_no_place(rpc: Rpc, edge: Edge) -> None:
    for params in ({"bucket": "b"}, {"prefix": "p"}):
        assert (await rpc("tenants.backup", params))["data"]["code"] == "forbidden"
    assert (await rpc("tenants.backup", {"endpoint": "http://169.254.169.254"}))["code"] == -32602


async def test_where_backups_go_is_told_to_no_tenant(rpc: Rpc, edge: Edge) -> None:
    backups: Any = edge.services.backups
    backups.error = StoreRefused("s3://secret-bucket refuses")
    for method, params in (("tenants.backup", {}), ("tenants.backups.list", {}), ("tenants.restore", {"key": KEY})):
        answer = await rpc(method, params)
        assert answer["data"]["code"] == "unavailable"
        assert "secret-bucket" not in str(answer)
