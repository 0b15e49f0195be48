"""Terminals begin and end by the rules, and the record says so."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from carrel.clock import Clock, SystemClock
from carrel.declare.tenant import Member, TerminalConfig
from carrel.errors import InvalidRequest, NotFound, SandboxBusy, SandboxUnavailable, Unavailable
from carrel.events.hub import Event, Hub, Subscription
from carrel.ids import RequestId
from carrel.sandbox.protocol import Size
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Tenant
from carrel.terminal.left import Began, Left
from carrel.terminal.screen import Screen
from carrel.terminal.service import Order, Terminals
from tests.fakes.patience import eventually
from tests.fakes.sandbox import FakeEnvironments, FakeSandbox
from tests.fakes.tenants import make_snapshot, make_tenant
from tests.fakes.terminals import NoWayOut

CAT: dict[str, Any] = {"shell": "cat"}
YES: dict[str, Any] = {"shell": "yes"}


class Record:
    """Lines as they are recorded."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    async def record(self, **line: Any) -> None:
        self.lines.append(line)

    def outcomes(self, action: str) -> list[str]:
        return [line["outcome"] for line in self.lines if line["action"] == action]


@dataclass
class House:
    """Terminals, and what they stand on."""

    terminals: Terminals
    directory: Directory
    record: Record
    sandbox: FakeSandbox
    hub: Hub
    egress: NoWayOut = field(default_factory=NoWayOut)

    def publish(self, *tenants: Tenant) -> None:
        self.directory.publish(make_snapshot(*tenants))


@asynccontextmanager
async def a_house(path: Path, *tenants: Tenant, clock: Clock | None = None) -> AsyncIterator[House]:
    directory, record, sandbox, clock = Directory(), Record(), FakeSandbox(), clock or SystemClock()
    directory.publish(make_snapshot(*tenants))
    hub, tasks, egress = Hub(clock=clock), Tasks("terminals"), NoWayOut()
    terminals = Terminals(
        state_dir=path, sandbox=sandbox, environments=FakeEnvironments(), egress=egress, directory=directory,
        audit=record, hub=hub, clock=clock, tasks=tasks,
    )  # fmt: skip
    await terminals.start()
    yield House(terminals, directory, record, sandbox, hub, egress)
    await terminals.close()
    await tasks.close()


def an_order(**more: Any) -> Order:
    terminal_id = f"term_{secrets.token_hex(12)}"
    order = Order(terminal_id, "tk_acme", RequestId("req_1"), "main", "sandbox", Size(80, 24), lambda: True)
    return replace(order, **more)


async def ended(screen: Screen) -> str:
    await eventually(lambda: screen.end is not None)
    assert screen.end is not None
    return screen.end.reason


async def test_it_is_opened_listed_closed_and_recorded(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path)
    async with a_house(tmp_path, tenant) as house:
        told: list[Event] = []
        house.hub.subscribe(tenant, Subscription(None, (), told.append))
        screen = await house.terminals.open(tenant, an_order(record=True))
        assert house.terminals.of(tenant, all_members=False) == (screen,)
        assert [began.id for began in Left(tmp_path).all()] == [screen.id]
        screen.write(b"exit 4\n")
        assert await ended(screen) == "exit"
        await eventually(lambda: house.record.outcomes("terminal.end") == ["exit"])
        await eventually(lambda: list(Left(tmp_path).all()) == [])
        assert house.terminals.of(tenant, all_members=False) == ()
        assert house.terminals.get(tenant, screen.id, all_members=False) is screen
        start, end = house.record.lines
        assert (start["actor"], start["target"], start["tenant"]) == ("tk_acme", screen.id, "acme")
        assert start["after"] == {"agent": "main", "workspace": "sandbox", "recorded": True}
        assert (end["after"]["exit_code"], end["after"]["bytes_in"]) == (4, 7)
        assert end["after"]["bytes_out"] == screen.bytes_out > 0
        (kept,) = await house.terminals.recordings(tenant)
        data, size = await house.terminals.recording(tenant, screen.id, offset=0, most=1 << 20)
        assert (kept.terminal_id, kept.size, data[:13]) == (screen.id, size, b'{"version": 2')
        assert b"exit 4" in data
        assert [event.kind for event in told] == ["terminal.started", "terminal.ended"]
        assert house.egress.asked[0]["agent"] == "main"


async def test_a_tenant_has_no_more_than_it_may(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path, terminal=TerminalConfig(most=2))
    async with a_house(tmp_path, tenant) as house:
        opening = [house.terminals.open(tenant, an_order()) for _ in range(4)]
        got = await asyncio.gather(*opening, return_exceptions=True)
        screens = [one for one in got if isinstance(one, Screen)]
        assert len(screens) == 2
        assert {type(one) for one in got} == {Screen, SandboxBusy}
        screens[0].stop("closed")
        assert await ended(screens[0]) == "closed"
        assert isinstance(await house.terminals.open(tenant, an_order()), Screen)


async def test_S1_03_it_ends_with_the_credential_and_with_its_tenant(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path, members=(Member(name="ann"), Member(name="bob")))
    async with a_house(tmp_path, tenant) as house:
        holds = True
        revoked = await house.terminals.open(tenant, an_order(allowed=lambda: holds))
        other = await house.terminals.open(tenant, an_order())
        ann = await house.terminals.open(tenant.as_member("ann"), an_order())
        holds = False
        assert await ended(revoked) == "revoked"
        house.publish(replace(tenant, config=tenant.config.model_copy(update={"members": (Member(name="bob"),)})))
        assert await ended(ann) == "revoked"
        assert other.end is None
        house.publish(replace(tenant, suspended=True))
        assert await ended(other) == "suspended"


async def test_it_ends_when_it_is_idle_and_at_its_longest_time(tmp_path: Path) -> None:
    idle = make_tenant(tmp_path, terminal=TerminalConfig(idle_seconds=0.2))
    short = make_tenant(tmp_path, "brief", terminal=TerminalConfig(total_seconds=0.3))
    async with a_house(tmp_path, idle, short) as house:
        assert await ended(await house.terminals.open(idle, an_order(**CAT))) == "idle"
        assert await ended(await house.terminals.open(short, an_order(**CAT))) == "total_time"
        busy = await house.terminals.open(idle, an_order(**YES))
        await eventually(lambda: busy.bytes_out > 1 << 18)
        assert busy.end is None


async def test_one_member_does_not_see_anothers(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path, members=(Member(name="ann"), Member(name="bob")))
    async with a_house(tmp_path, tenant) as house:
        ann, bob = tenant.as_member("ann"), tenant.as_member("bob")
        screen = await house.terminals.open(ann, an_order())
        assert house.terminals.get(ann, screen.id, all_members=False) is screen
        for whose in (bob, tenant, make_tenant(tmp_path, "other")):
            with pytest.raises(NotFound):
                house.terminals.get(whose, screen.id, all_members=False)
        assert house.terminals.of(bob, all_members=True) == (screen,)
        screen.stop("closed")
        await eventually(lambda: screen.end is not None)


async def test_what_cannot_be_opened_leaves_nothing_and_is_recorded(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path)
    off = make_tenant(tmp_path, "off", terminal=TerminalConfig(enabled=False, record="never"))
    never = make_tenant(tmp_path, "never", terminal=TerminalConfig(record="never"))
    async with a_house(tmp_path, tenant, off, never) as house:
        with pytest.raises(NotFound, match=r"terminal\.enabled"):
            await house.terminals.open(off, an_order())
        with pytest.raises(InvalidRequest, match=r"terminal\.record"):
            await house.terminals.open(never, an_order(record=True))
        assert house.record.lines == []
        house.sandbox.error = SandboxUnavailable("none")
        with pytest.raises(SandboxUnavailable):
            await house.terminals.open(tenant, an_order())
        await eventually(lambda: house.record.outcomes("terminal.end") == ["failed: sandbox_unavailable"])
        await eventually(lambda: list(Left(tmp_path).all()) == [])
        assert house.terminals.of(tenant, all_members=True) == ()


async def test_those_that_a_killed_gateway_left_are_in_the_record(tmp_path: Path) -> None:
    Left(tmp_path).note(Began("term_1", "acme", "tk_acme", "req_1"))
    async with a_house(tmp_path, make_tenant(tmp_path)) as house:
        (line,) = house.record.lines
        assert (line["action"], line["target"], line["outcome"]) == ("terminal.end", "term_1", "gateway_lost")
        assert list(Left(tmp_path).all()) == []


async def test_a_gateway_that_stops_ends_all_and_opens_no_more(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path)
    async with a_house(tmp_path, tenant) as house:
        screens = [await house.terminals.open(tenant, an_order()) for _ in range(3)]
        await house.terminals.close()
        assert [screen.end.reason for screen in screens if screen.end] == ["shutdown"] * 3
        assert house.record.outcomes("terminal.end") == ["shutdown"] * 3
        assert not house.sandbox.running
        with pytest.raises(Unavailable):
            await house.terminals.open(tenant, an_order())
