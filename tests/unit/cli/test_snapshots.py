from typing import Any

from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine


async def test_a_copy_and_the_way_back(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("tenants", "snapshot", "acme", "--label", "x", "--session", "one")
    assert (done.code, done.out) == (0, "20260301-a\n")
    assert "2 left out" in done.err
    assert (await carrel("tenants", "snapshots", "acme")).out.splitlines()[1].split()[:2] == ["20260301-a", "sandbox"]
    assert (await carrel("tenants", "snapshots", "acme", "--json")).json()["snapshots"][0]["label"] == "before"
    done = await carrel("tenants", "rollback", "acme")
    assert done.out == "sandbox is as it was in 20260301-a; what it was before is 20260301-b.\n"
    assert (await carrel("tenants", "rollback", "acme", "20260301-a", "--json")).json()["to"]["id"] == "20260301-a"
    snapshots: Any = edge.services.snapshots
    assert (await carrel("tenants", "snapshots", "acme", "--remove", "20260301-a")).out == "20260301-a is no more.\n"
    assert snapshots.done == ["make x one", "roll back 20260301-a", "roll back 20260301-a", "remove 20260301-a"]


async def test_what_is_not_there(carrel: CommandLine, edge: Edge) -> None:
    assert "no snapshot" in (await carrel("tenants", "snapshots", "bravo")).err
    assert (await carrel("tenants", "rollback", "bravo")).code == 1
    assert (await carrel("tenants", "rollback", "acme", "none")).code == 1
    assert (await carrel("tenants", "snapshot", "acme", "--session", "../x")).code == 2
