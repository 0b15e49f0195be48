"""A tenant's sessions, as its edges use them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from carrel.agents.entries import ErrorEntry, MessageEntry, StoredText
from carrel.agents.sessions import Sessions
from carrel.agents.turnstile import Turnstile
from carrel.errors import Conflict, InvalidRequest, NotFound, RateLimited
from carrel.ids import SessionId
from carrel.tenancy.handle import Tenant
from carrel.wire.conversation import Message, Text
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_tenant

S1 = SessionId("s1")


@asynccontextmanager
async def opened(*, clock: FakeClock | None = None, turns: Turnstile | None = None) -> AsyncIterator[Sessions]:
    sessions = Sessions(clock=clock or FakeClock(), turns=turns)
    try:
        yield sessions
    finally:
        await sessions.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def sessions(clock: FakeClock) -> AsyncIterator[Sessions]:
    async with opened(clock=clock) as made:
        yield made


@pytest.fixture
async def tenant(tmp_path: Path) -> AsyncIterator[Tenant]:
    made = make_tenant(tmp_path, sandbox={"scope": "session"})
    yield made
    made.root.close()


def message(text: str, role: str = "user") -> MessageEntry:
    return MessageEntry(role="user" if role == "user" else "assistant", content=(StoredText(text=text),))


async def say(sessions: Sessions, tenant: Tenant, session_id: str, *texts: str) -> None:
    async with sessions.open(tenant, SessionId(session_id), agent="main", create=True) as session:
        await session.append(*(message(text) for text in texts))


async def test_one_is_made_and_found_again_by_the_next_gateway(sessions: Sessions, tenant: Tenant) -> None:
    made = await sessions.create(tenant, "main", label="notes")
    assert await sessions.get(tenant, made.session_id) == made
    async with opened() as others:
        assert await others.get(tenant, made.session_id) == made


async def test_an_id_is_taken_once(sessions: Sessions, tenant: Tenant) -> None:
    await sessions.create(tenant, "main", session_id=S1)
    with pytest.raises(Conflict):
        await sessions.create(tenant, "main", session_id=S1)


async def test_another_tenants_session_is_none(sessions: Sessions, tenant: Tenant, tmp_path: Path) -> None:
    other = make_tenant(tmp_path, "bravo")
    await sessions.create(other, "main", session_id=S1)
    for attempt in (
        sessions.get(tenant, S1), sessions.preview(tenant, S1, limit=5), sessions.reset(tenant, S1),
        sessions.delete(tenant, S1),
    ):  # fmt: skip
        with pytest.raises(NotFound, match="No such session"):
            await attempt
    with pytest.raises(NotFound, match="No such session"):
        async with sessions.open(tenant, S1):
            pass
    assert await sessions.list(tenant) == []
    assert [s.session_id for s in await sessions.list(other)] == [S1]
    other.root.close()


async def test_the_last_used_come_first_page_by_page(sessions: Sessions, tenant: Tenant, clock: FakeClock) -> None:
    for number in range(7):
        await sessions.create(tenant, "main", session_id=SessionId(f"s{number}"))
        clock.advance(1 if number % 2 else 0)
    clock.advance(1)
    await say(sessions, tenant, "s2", "hello")
    names = [s.session_id for s in await sessions.list(tenant)]
    assert names[0] == "s2"
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await sessions.page(tenant, limit=3, cursor=cursor)
        seen += [s.session_id for s in page.sessions]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == names
    with pytest.raises(InvalidRequest):
        await sessions.page(tenant, cursor="nonsense")
    with pytest.raises(InvalidRequest):
        await sessions.page(tenant, limit=0)


async def test_a_key_finds_one_session_of_each_agent(sessions: Sessions, tenant: Tenant) -> None:
    found = await asyncio.gather(*(sessions.find_or_create(tenant, "main", "user 7") for _ in range(8)))
    assert len({s.session_id for s in found}) == 1
    assert (await sessions.find_or_create(tenant, "other", "user 7")).session_id != found[0].session_id
    async with opened() as others:
        assert (await others.find_or_create(tenant, "main", "user 7")).session_id == found[0].session_id
    for key in ("", "x" * 513):
        with pytest.raises(InvalidRequest):
            await sessions.find_or_create(tenant, "main", key)


async def test_a_preview_is_the_last_that_was_said_also_during_a_turn(sessions: Sessions, tenant: Tenant) -> None:
    async with sessions.open(tenant, S1, agent="main", create=True) as session:
        await session.append(*(message(str(n)) for n in range(5)), ErrorEntry(code="c", message="m"))
        shown = await sessions.preview(tenant, S1, limit=2)
    assert shown == [Message("user", (Text("3"),)), Message("user", (Text("4"),))]
    assert await sessions.preview(tenant, S1, limit=0) == []


async def test_a_preview_leaves_a_line_alone_that_is_being_written(
    sessions: Sessions, tenant: Tenant, tmp_path: Path
) -> None:
    await say(sessions, tenant, "s1", "a")
    path = tmp_path / "tenants/acme/sessions/s1.jsonl"
    torn = path.read_bytes() + b'{"type":"mess'
    path.write_bytes(torn)
    assert len(await sessions.preview(tenant, S1, limit=5)) == 1
    assert path.read_bytes() == torn


async def test_a_reset_begins_anew_and_keeps_the_transcript(sessions: Sessions, tenant: Tenant, tmp_path: Path) -> None:
    await say(sessions, tenant, "s1", "old")
    await sessions.reset(tenant, S1)
    assert await sessions.preview(tenant, S1, limit=5) == []
    assert (await sessions.get(tenant, S1)).messages == 0
    assert b"old" in (tmp_path / "tenants/acme/sessions/s1.jsonl").read_bytes()
    async with sessions.open(tenant, S1) as session:
        assert not session.begun


async def test_what_was_kept_of_a_workspace_goes_with_it(tenant: Tenant) -> None:
    gone: list[tuple[str, str]] = []
    made = Sessions(clock=FakeClock(), forgets=lambda whose, workspace: gone.append((whose.id, workspace)))
    await made.create(tenant, "main", session_id=S1)
    await made.delete(tenant, S1)
    assert gone == [("acme", f"sandbox.d/session-{S1}")]
    await made.close()


async def test_deleted_is_gone_with_its_workspace(sessions: Sessions, tenant: Tenant, tmp_path: Path) -> None:
    await say(sessions, tenant, "s1", "x")
    own = tmp_path / "tenants/acme/sandbox.d/session-s1/deep"
    own.mkdir(parents=True)
    await sessions.delete(tenant, S1)
    assert not own.parent.exists()
    with pytest.raises(NotFound):
        await sessions.get(tenant, S1)
    with pytest.raises(NotFound):
        await sessions.delete(tenant, S1)
    async with opened() as others:
        assert await others.list(tenant) == []


async def test_a_session_belongs_to_its_agent(sessions: Sessions, tenant: Tenant) -> None:
    await say(sessions, tenant, "s1", "x")
    with pytest.raises(Conflict, match="'main'"):
        async with sessions.open(tenant, S1, agent="other"):
            pass


async def test_a_session_that_nothing_was_said_in_leaves_nothing(sessions: Sessions, tenant: Tenant) -> None:
    async with sessions.open(tenant, S1, agent="main", create=True):
        pass
    assert await sessions.list(tenant) == []


async def test_one_turn_at_a_time_in_the_order_of_coming(tenant: Tenant) -> None:
    async with opened(turns=Turnstile("this session", max_waiting=3)) as sessions:
        seen: list[str] = []

        async def turn(name: str) -> None:
            async with sessions.open(tenant, S1, agent="main", create=True) as session:
                seen.append(f"{name} begins after {len(session.entries)}")
                await session.append(message(name))
                await asyncio.sleep(0.005)
                seen.append(f"{name} ends")

        results = await asyncio.gather(*(turn(str(n)) for n in range(6)), return_exceptions=True)
        assert seen == [text for n in range(4) for text in (f"{n} begins after {n}", f"{n} ends")]
        assert [type(r) for r in results[4:]] == [RateLimited, RateLimited]


async def test_a_turn_that_gives_up_lets_the_next_one_in(sessions: Sessions, tenant: Tenant) -> None:
    async with sessions.open(tenant, S1, agent="main", create=True):
        waiting = [asyncio.ensure_future(say(sessions, tenant, "s1", str(n))) for n in range(3)]
        await asyncio.sleep(0.01)
        waiting[0].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [m.content for m in await sessions.preview(tenant, S1, limit=9)] == [(Text("1"),), (Text("2"),)]


async def test_a_torn_line_is_mended_when_a_turn_begins(sessions: Sessions, tenant: Tenant, tmp_path: Path) -> None:
    await say(sessions, tenant, "s1", "a")
    path = tmp_path / "tenants/acme/sessions/s1.jsonl"
    path.write_bytes(path.read_bytes() + b'garbage\n{"type":"mess')
    async with opened() as others:
        async with others.open(tenant, S1) as session:
            assert [p.line for p in session.problems] == [3]
            await session.append(message("b"))
        async with others.open(tenant, S1) as session:
            assert not session.problems
        assert len(await others.preview(tenant, S1, limit=9)) == 2
        assert (await others.get(tenant, S1)).size == path.stat().st_size


async def test_a_tenant_that_was_made_anew_has_no_old_sessions(sessions: Sessions, tmp_path: Path) -> None:
    first = make_tenant(tmp_path / "one")
    await sessions.create(first, "main")
    second = make_tenant(tmp_path / "two")
    assert await sessions.list(second) == []
    first.root.close()
    second.root.close()


async def test_a_whole_transcript_is_taken_in(sessions: Sessions, tenant: Tenant, tmp_path: Path) -> None:
    made = await sessions.create(tenant, "main", session_id=S1, label="notes", key="user-1")
    await say(sessions, tenant, "s1", "one", "two")
    data = (tmp_path / "tenants/acme/sessions/s1.jsonl").read_bytes()
    with pytest.raises(Conflict):
        await sessions.put(tenant, S1, data)
    await say(sessions, tenant, "s1", "three")
    copy = await sessions.put(tenant, SessionId("s2"), data)
    assert (copy.session_id, copy.label, copy.key, copy.messages) == ("s2", "notes", None, 2)
    assert len(await sessions.preview(tenant, SessionId("s2"), limit=9)) == 2
    assert (await sessions.put(tenant, S1, data, replace=True)).key == made.key == "user-1"
    assert len(await sessions.preview(tenant, S1, limit=9)) == 2
    await say(sessions, tenant, "s1", "and on")
    assert len(await sessions.preview(tenant, S1, limit=9)) == 3


async def test_a_tenant_rests_once_its_turns_have_ended(sessions: Sessions, tenant: Tenant, tmp_path: Path) -> None:
    await sessions.create(tenant, "main", session_id=S1)
    async with sessions.open(tenant, S1):
        resting = asyncio.ensure_future(sessions.rest(tenant.id))
        await asyncio.sleep(0)
        assert not resting.done()
    await asyncio.wait_for(resting, 60)
    (tmp_path / "tenants/acme/sessions/s1.jsonl").unlink()
    assert list(await sessions.list(tenant)) == []
