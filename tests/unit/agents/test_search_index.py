"""Full text of sessions."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from carrel.agents.entries import MessageEntry, ResetEntry, stored
from carrel.agents.search_index import SessionSearch, match_of
from carrel.agents.sessions import Sessions
from carrel.declare.tenant import Member, SandboxConfig
from carrel.errors import InvalidRequest
from carrel.ids import SessionId
from carrel.tenancy.handle import Tenant
from carrel.wire.conversation import Message, Text
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_tenant


class Rig:
    """Sessions with things said in them, and the search over them."""

    def __init__(self) -> None:
        self.sessions = Sessions(clock=FakeClock())
        self.search = SessionSearch(self.sessions)

    async def say(self, tenant: Tenant, session: str, text: str) -> None:
        async with self.sessions.open(tenant, SessionId(session), agent="main", create=True) as opened:
            await opened.append(MessageEntry(role="user", content=stored(Message("user", (Text(text),)))))

    async def find(self, tenant: Tenant, query: str, **more: str) -> list[str]:
        session = more.get("session")
        found = await self.search.search(
            tenant, query, agent=more.get("agent"), session_id=SessionId(session) if session else None
        )
        return sorted(hit.session_id for hit in found)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.search.close()
    await made.sessions.close()


async def test_what_was_said_is_found_as_soon_as_it_was(rig: Rig, tmp_path: Path) -> None:
    acme, bravo = make_tenant(tmp_path), make_tenant(tmp_path, "bravo")
    await rig.say(acme, "a", "The invoice of March")
    await rig.say(acme, "b", "Another Café")
    assert await rig.find(acme, "invoice") == ["a"]
    assert await rig.find(acme, "cafe") == ["b"]
    assert await rig.find(acme, "march inv") == ["a"]
    assert await rig.find(bravo, "invoice") == []
    await rig.say(acme, "b", "about the invoice")
    assert await rig.find(acme, "INVOICE") == ["a", "b"]
    assert await rig.find(acme, "invoice", session="b") == ["b"]
    assert await rig.find(acme, "invoice", agent="other") == []
    hit = (await rig.search.search(acme, "march"))[0]
    assert (hit.role, hit.snippet) == ("user", "The invoice of [March]")


async def test_what_is_gone_is_not_found(rig: Rig, tmp_path: Path) -> None:
    acme = make_tenant(tmp_path)
    for name in ("a", "b"):
        await rig.say(acme, name, "invoice")
    assert await rig.find(acme, "invoice") == ["a", "b"]
    await rig.sessions.delete(acme, SessionId("a"))
    async with rig.sessions.open(acme, SessionId("b")) as opened:
        await opened.append(ResetEntry())
    assert await rig.find(acme, "invoice") == []


async def test_a_member_finds_their_own_alone(rig: Rig, tmp_path: Path) -> None:
    sandbox = SandboxConfig(scope="member")
    acme = make_tenant(tmp_path, sandbox=sandbox, members=(Member(name="ann"), Member(name="bob")))
    await rig.say(acme.as_member("ann"), "s", "invoice")
    assert await rig.find(acme.as_member("ann"), "invoice") == ["s"]
    assert await rig.find(acme.as_member("bob"), "invoice") == []


@pytest.mark.parametrize("query", ['"', "a OR b", "NEAR(a b)", "x* y:z", "-x ^y"])
async def test_no_query_is_an_expression(rig: Rig, tmp_path: Path, query: str) -> None:
    acme = make_tenant(tmp_path)
    await rig.say(acme, "s", "nothing of it")
    if query == '"':
        with pytest.raises(InvalidRequest):
            match_of(query)
    else:
        assert await rig.find(acme, query) == []
