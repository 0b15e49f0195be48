"""Once for a turn, before whatever changes something, and never for what only looks."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from carrel.agents.precaution import TurnPrecaution
from carrel.declare.tenant import SandboxConfig
from carrel.tenancy.handle import Tenant
from tests.fakes.agents import house
from tests.fakes.tenants import make_tenant


class Asked:
    def __init__(self) -> None:
        self.of: list[tuple[str, str]] = []

    async def before(self, tenant: Tenant, workspace: str, /, *, label: str, told: Callable[[str], None]) -> None:
        await asyncio.sleep(0)
        self.of.append((workspace, label))
        told("too large")


async def test_calls_side_by_side_wait_for_one(tmp_path: Path) -> None:
    tenant, asked, told = make_tenant(tmp_path), Asked(), list[str]()
    turn = TurnPrecaution(asked, tenant, "sandbox", label="x")
    await turn.take("file_read", told.append)
    assert asked.of == []
    await asyncio.gather(*(turn.take(tool, told.append) for tool in ("shell", "file_write", "file_edit", "shell")))
    assert (asked.of, told) == ([("sandbox", "x")], ["too large"])
    tenant.root.close()


@pytest.mark.parametrize("snapshot", ["off", "before_turn"])
async def test_where_it_is_off_there_is_none(tmp_path: Path, snapshot: str) -> None:
    asked = Asked()
    tenant = make_tenant(tmp_path, sandbox=SandboxConfig(snapshot=snapshot))  # type: ignore[arg-type] # a literal
    await TurnPrecaution(asked, tenant, "sandbox", label="x").take("shell", lambda _: None)
    assert len(asked.of) == (snapshot == "before_turn")
    await TurnPrecaution(None, tenant, "sandbox", label="x").take("shell", lambda _: None)
    tenant.root.close()


async def test_an_agents_turn_asks_before_its_first_change(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        asked = Asked()
        home.agents._precaution = asked
        await home.say("tool: file_list {}")
        assert asked.of == []
        events = await home.say("run: true", session="two")
        assert asked.of == [("sandbox", "session two")]
        assert any("too large" in str(event) for event in events)
