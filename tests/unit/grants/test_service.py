"""Requests and decisions: bound to who asked and to what, over when they are over, and nothing on any doubt."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest

from carrel.declare.allowlists import Allowlists
from carrel.declare.tenant import Member, SandboxConfig
from carrel.errors import Forbidden, InvalidRequest, NotFound, RateLimited
from carrel.grants.book import FILE, MOST_WAITING, Decision, Grant, Kind, Unreadable, write
from carrel.grants.service import Grants, caution
from carrel.ids import RequestId, SessionId, TenantId
from carrel.tasks import Tasks
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire.control import Actor
from tests.fakes.clock import FakeClock
from tests.fakes.egress import Lines
from tests.fakes.patience import PATIENCE
from tests.fakes.tenants import make_snapshot, make_tenant
from tests.unit.policy.egress.test_rules import asked

BY = Actor("ak_ops", RequestId("req_1"))
LISTS = Allowlists.model_validate_json('{"packages": {"names": ["jq"]}, "hosts": {"names": ["*.docs.example.com"]}}')


ACME, ONE = TenantId("acme"), SessionId("one")


@dataclass(frozen=True)
class Who:
    """Somebody behind a gate."""

    tenant_id: TenantId = ACME
    agent: str = "main"
    session_id: SessionId | None = ONE
    member: str | None = None


class Chosen:
    def __init__(self) -> None:
        self.names: list[str] = []

    async def add(self, snapshot: Snapshot, tenant: Tenant, names: Sequence[str], *, by: Actor) -> object:
        self.names += names
        return None


class Rig:
    def __init__(self, state: Path) -> None:
        self.clock, self.lines, self.tasks, self.chosen = FakeClock(), Lines(), Tasks("test"), Chosen()
        self.tenant = make_tenant(state)
        self.snapshot = replace(make_snapshot(self.tenant), allowlists=LISTS)
        self.grants = self.fresh()

    def fresh(self) -> Grants:
        return Grants(clock=self.clock, tasks=self.tasks, audit=self.lines, packages=self.chosen)

    async def ask(
        self, what: str = "api.example.com", kind: Kind = "host", session: str = "one", wait: float = 0.0,
        member: str | None = None,
    ) -> Grant:  # fmt: skip
        return await self.grants.ask(
            self.tenant, kind=kind, what=what, reason="why", agent="main", session_id=SessionId(session), member=member,
            request_id=RequestId("req_2"), wait=wait,
        )  # fmt: skip

    async def decide(self, grant: Grant, decision: Decision, *, operator: bool = True) -> Grant:
        return await self.grants.decide(self.snapshot, self.tenant, grant.id, decision, by=BY, operator=operator)

    def open(self, where: str = "api.example.com:443", who: Who | None = None) -> bool:
        return bool(self.grants.rules((who or Who(),), asked(where)))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.tasks.close()
    made.tenant.root.close()


async def test_nothing_is_open_until_it_is_decided(rig: Rig) -> None:
    grant = await rig.ask()
    assert grant.decision is None
    assert not rig.open()
    await rig.decide(grant, "1h")
    assert rig.open()
    await rig.decide(grant, "deny")
    assert not rig.open()
    assert [line["action"] for line in rig.lines.lines] == ["grants.ask", "grants.decide", "grants.decide"]


async def test_it_is_bound_to_the_asker_and_to_exactly_what_was_asked(rig: Rig) -> None:
    await rig.decide(await rig.ask(), "always")
    for who in (
        Who(session_id=SessionId("two")),
        Who(agent="other"),
        Who(tenant_id=TenantId("zeta")),
        Who(session_id=None),
    ):
        assert not rig.open(who=who)
    for where in ("api.example.com:80", "other.example.com:443", "example.com:443", "x.api.example.com:443"):
        assert not rig.open(where)


@pytest.mark.parametrize(("decision", "hours"), [("1h", 1), ("24h", 24)])
async def test_it_is_over_when_its_time_is(rig: Rig, decision: Decision, hours: int) -> None:
    await rig.decide(await rig.ask(), decision)
    rig.clock.advance(hours * 3600 - 1)
    assert rig.open()
    rig.clock.advance(2)
    assert not rig.open()
    assert [grant.state(rig.clock.now()) for grant in await rig.grants.all(rig.tenant)] == ["over"]
    assert (await rig.ask()).decision is None, "asked again, it is another request"


async def test_once_is_one_use_however_many_try(rig: Rig) -> None:
    await rig.decide(await rig.ask(), "once")
    assert rig.open()
    assert rig.open(), "the steps of one use"
    rig.clock.advance(11)
    assert [rig.open() for _ in range(10)] == [False] * 10
    await rig.ask("other.example.com")
    assert not rig.open()


async def test_once_is_one_use_over_a_restart_too(rig: Rig) -> None:
    rig.grants.prepare(rig.tenant)
    await rig.tasks.drain(30)
    await rig.decide(await rig.ask(), "once")
    assert rig.open()
    await rig.tasks.drain(30)
    rig.grants = rig.fresh()
    rig.grants.prepare(rig.tenant)
    await rig.tasks.drain(30)
    rig.clock.advance(11)
    assert not rig.open()


async def test_what_is_used_up_while_another_is_asked_for_stays_used(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.decide(await rig.ask(), "once")
    used = threading.Event()

    def slow(tenant: Tenant, grants: list[Grant], now: datetime) -> list[Grant]:
        assert used.wait(30)
        return write(tenant, grants, now)

    monkeypatch.setattr("carrel.grants.service.write", slow)
    asking = asyncio.ensure_future(rig.ask("other.example.com"))
    while not rig.grants._lock(rig.tenant).locked():
        await asyncio.sleep(0)
    assert rig.open()
    used.set()
    await asking
    rig.clock.advance(11)
    assert not rig.open()


async def test_who_asks_waits_for_the_decision(rig: Rig) -> None:
    told: list[str] = []
    waiting = asyncio.ensure_future(
        rig.grants.ask(
            rig.tenant, kind="host", what="api.example.com", reason="why", agent="main", session_id=SessionId("one"),
            member=None, request_id=RequestId("req_2"), told=told.append, wait=60,
        )
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        while not told:
            await asyncio.sleep(0.01)
        (grant,) = await rig.grants.all(rig.tenant)
        await rig.decide(grant, "1h")
        assert (await waiting).decision == "1h"
    assert grant.id in told[0]


async def test_of_what_nobody_decided_nothing_stays_in_memory_but_the_request(rig: Rig) -> None:
    for session in ("one", "two"):
        # In a task of its own: one that is timed out remembers where it was for as long as it lives.
        assert (await asyncio.create_task(rig.ask(session=session, wait=0.01))).decision is None
    gc.collect()
    assert (len(rig.grants._decided), len(rig.grants._locks)) == (0, 0)


async def test_the_same_asked_again_is_the_same_request(rig: Rig) -> None:
    first, again = await rig.ask(), await rig.ask("API.example.com:443")
    assert first.id == again.id
    assert (await rig.ask(session="two")).id != first.id


@pytest.mark.parametrize("what", ["*.example.com", "*", "a b", "https://a.com", "", "a.com:0", "[::1"])
async def test_what_is_no_host_cannot_be_asked_for(rig: Rig, what: str) -> None:
    with pytest.raises(InvalidRequest):
        await rig.ask(what)


@pytest.mark.parametrize(
    "what",
    ["127.0.0.1:18789", "169.254.169.254:80", "0x7f.1", "10.0.0.1", "[::1]:443", "[::ffff:10.0.0.1]:443", "2130706433"],
)
async def test_S4_03_an_address_that_is_not_public_is_the_operators_to_open(rig: Rig, what: str) -> None:
    """Whoever decides is told what it is, in whatever form it was asked for."""
    told: list[str] = []
    grant = await rig.grants.ask(
        rig.tenant, kind="host", what=what, reason="why", agent="main", session_id=ONE, member=None,
        request_id=RequestId("req_2"), told=told.append, wait=0,
    )  # fmt: skip
    about = caution(grant)
    assert about is not None
    assert about in told[0]
    with pytest.raises(Forbidden, match="operator"):
        await rig.decide(grant, "1h", operator=False)
    assert (await rig.decide(grant, "1h")).decision == "1h"


async def test_S4_03_one_that_the_operator_offers_by_its_very_address_is_the_tenants_too(rig: Rig) -> None:
    offered = Allowlists.model_validate_json('{"hosts": {"names": ["10.0.0.5:5432"]}}')
    rig.snapshot = replace(rig.snapshot, allowlists=offered)
    assert (await rig.decide(await rig.ask("10.0.0.5:5432"), "1h", operator=False)).decision == "1h"
    for other in (await rig.ask("10.0.0.5:5433"), await rig.ask("10.0.0.6:5432")):
        with pytest.raises(Forbidden):
            await rig.decide(other, "1h", operator=False)
    for kind, what in (("host", "8.8.8.8:853"), ("host", "docs.example.com"), ("package", "jq"), ("tool", "shell")):
        assert caution(await rig.ask(what, kind)) is None  # type: ignore[arg-type] # a kind by its name


async def test_what_several_share_is_open_where_each_was_granted_it(rig: Rig) -> None:
    one, two = Who(), Who(session_id=SessionId("two"))
    where = asked("api.example.com:443")
    await rig.decide(await rig.ask(), "once")
    assert rig.grants.rules((one, two), where) == ()
    assert rig.grants.rules((), where) == []
    assert (rig.grants.opens(one, where), rig.grants.opens(two, where)) == (True, False)
    await rig.decide(await rig.ask(session="two"), "1h")
    rig.clock.advance(30)
    assert len(rig.grants.rules((one, two), where)) == 2, "nothing of it was used up before"
    rig.clock.advance(30)
    assert rig.grants.rules((one, two), where) == ()
    assert rig.grants.rules((two,), where)


async def test_a_tenants_own_people_open_what_the_allowlists_offer(rig: Rig) -> None:
    offered = await rig.ask("api.docs.example.com")
    assert (await rig.decide(offered, "1h", operator=False)).decision == "1h"
    for grant in (await rig.ask(), await rig.ask("secret", "package"), await rig.ask("shell", "tool")):
        with pytest.raises(Forbidden, match="operator"):
            await rig.decide(grant, "once", operator=False)
        assert (await rig.decide(grant, "deny", operator=False)).decision == "deny"


async def test_a_package_is_chosen_and_a_tool_is_had(rig: Rig) -> None:
    await rig.decide(await rig.ask("jq", "package"), "always", operator=False)
    assert rig.chosen.names == ["jq"]
    await rig.decide(await rig.ask("shell", "tool"), "1h")
    assert rig.grants.tools(rig.tenant, "main", SessionId("one")) == ("shell",)
    assert rig.grants.tools(rig.tenant, "main", SessionId("two")) == ()
    with pytest.raises(InvalidRequest):
        await rig.ask("no-such-tool", "tool")


async def test_it_holds_over_a_restart_once_it_is_read(rig: Rig) -> None:
    await rig.decide(await rig.ask(), "24h")
    rig.grants = rig.fresh()
    assert not rig.open(), "nothing is granted that is not read yet"
    rig.grants.prepare(rig.tenant)
    await rig.tasks.drain(30)
    assert rig.open()


async def test_a_file_that_cannot_be_read_grants_nothing(rig: Rig) -> None:
    await rig.decide(await rig.ask(), "always")
    for broken in (b"{", b"[{}]", b"x" * (2 << 20)):
        rig.tenant.root.replace(FILE, broken)
        rig.grants = rig.fresh()
        rig.grants.prepare(rig.tenant)
        await rig.tasks.drain(30)
        assert not rig.open()
        with pytest.raises(Unreadable):
            await rig.ask("b.com")


async def test_so_many_wait_and_no_more(rig: Rig) -> None:
    for number in range(MOST_WAITING):
        await rig.ask(f"h{number}.com")
    with pytest.raises(RateLimited):
        await rig.ask("one-more.com")
    with pytest.raises(NotFound):
        await rig.grants.decide(rig.snapshot, rig.tenant, "gr_none", "1h", by=BY, operator=True)


async def test_what_is_granted_to_a_member_is_nobody_elses_in_a_session_of_the_same_id(rig: Rig) -> None:
    people = (Member(name="ada"), Member(name="bob"))
    config = rig.tenant.config.model_copy(update={"members": people, "sandbox": SandboxConfig(scope="member")})
    rig.tenant = replace(rig.tenant, config=config)
    ada, bob = rig.tenant.as_member("ada"), rig.tenant.as_member("bob")
    grant = await rig.ask(member="ada")
    tool = await rig.ask("shell", "tool", member="ada")
    await rig.decide(tool, "always")
    with pytest.raises(NotFound):
        await rig.grants.decide(rig.snapshot, bob, grant.id, "deny", by=BY, operator=False)
    assert not rig.open(who=Who(member="ada"))
    await rig.grants.decide(rig.snapshot, ada, grant.id, "1h", by=BY, operator=True)
    assert rig.open(who=Who(member="ada"))
    assert not rig.open(who=Who(member="bob"))
    assert not rig.open(who=Who())
    assert await rig.grants.all(bob) == []
    assert {one.id for one in await rig.grants.all(ada)} == {grant.id, tool.id}
    assert {one.id for one in await rig.grants.all(rig.tenant)} == {grant.id, tool.id}
    assert rig.grants.tools(ada, "main", ONE) == ("shell",)
    assert rig.grants.tools(bob, "main", ONE) == ()


async def test_what_was_replaced_on_the_disk_is_read_anew(rig: Rig) -> None:
    grant = await rig.ask()
    await rig.decide(grant, "1h")
    rig.tenant.root.remove("grants.json")
    assert rig.open()
    rig.grants.forget(rig.tenant.id)
    assert not rig.open()
    assert await rig.grants.all(rig.tenant) == []
