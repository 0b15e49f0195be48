from typing import Any

from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine


async def test_what_is_asked_and_decided(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("grants", "list", "acme")
    assert done.out.splitlines()[1].split()[:3] == ["gr_1", "waiting", "-"]
    assert (await carrel("grants", "list", "acme", "--json")).json()["grants"][0]["what"] == "a.com:443"
    assert "asked for anything" in (await carrel("grants", "list", "bravo")).err
    done = await carrel("grants", "decide", "acme", "gr_1", "1h")
    assert (done.code, done.out) == (0, "host a.com:443: granted (1h).\n")
    access: Any = edge.services.access
    assert access.operator is True
    assert (await carrel("grants", "decide", "acme", "gr_1", "deny", "--json")).json()["decision"] == "deny"


async def test_what_is_not_there_or_no_decision(carrel: CommandLine, edge: Edge) -> None:
    assert (await carrel("grants", "decide", "acme", "gr_2", "1h")).code == 1
    assert (await carrel("grants", "decide", "acme", "gr_1", "forever")).code == 2
