"""Requests for access in words."""

from pathlib import Path

from carrel.agents.events import Turn
from carrel.grants.service import Grants
from carrel.ids import RequestId, SessionId
from carrel.main.access import Access
from carrel.tasks import Tasks
from carrel.wire.control import Actor
from tests.fakes.clock import FakeClock
from tests.fakes.egress import Lines
from tests.fakes.tenants import make_snapshot, make_tenant


async def test_a_request_is_told_in_words_at_every_stage(tmp_path: Path) -> None:
    clock, tasks, tenant = FakeClock(), Tasks("test"), make_tenant(tmp_path)
    grants = Grants(clock=clock, tasks=tasks, audit=Lines())
    access = Access(grants=grants, clock=clock)
    turn = Turn("main", SessionId("s"), (), RequestId("req_1"))
    by = Actor("ak_ops", RequestId("req_2"))

    def decided(text: str) -> None:
        """Whoever is told decides at once."""
        tasks.start(
            access.decide(make_snapshot(tenant), tenant, text.split()[-2], "1h", by=by, operator=True), name="decide"
        )

    async def ask() -> str:
        return await access.request(tenant, turn, kind="host", what="a.com", reason="docs", told=decided)

    assert await ask() == "Granted for an hour: the host a.com:443, in this session."
    (view,) = (await access.list(tenant)).grants
    assert (view.state, view.decision, view.decided_by) == ("granted", "1h", "ak_ops")
    await access.decide(make_snapshot(tenant), tenant, view.id, "deny", by=by, operator=True)
    assert (await access.list(tenant)).grants[0].state == "denied"
    assert access.tools(tenant, "main", SessionId("s")) == ()
    await tasks.close()
    tenant.root.close()
