"""The memory of tenants: who finds what, and by what."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from carrel.declare.tenant import Member, SandboxConfig
from carrel.declare.tenant import Memory as MemoryConfig
from carrel.errors import InvalidRequest, NotFound
from carrel.events.hub import Hub
from carrel.ids import RequestId
from carrel.memory.service import Memory
from carrel.tenancy.handle import Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.engines import embed
from tests.fakes.tenants import make_snapshot, make_tenant

FILES: dict[str, tuple[str, str]] = {"main/MEMORY.md": ("main", "The office is in Vienna.")}


async def files(tenant: Tenant) -> Mapping[str, tuple[str, str]]:
    return FILES


@pytest.fixture
async def memory() -> AsyncIterator[Memory]:
    clock = FakeClock()
    made = Memory(clock=clock, hub=Hub(clock=clock), files=files, embeds=embed)
    yield made
    await made.close()


async def find(memory: Memory, tenant: Tenant, query: str, agent: str | None = None) -> tuple[list[str], str]:
    hits = await memory.search(tenant, make_snapshot(tenant), query, agent=agent, request_id=RequestId("r"))
    return [one.note.id for one in hits.found], hits.note


async def test_notes_and_files_are_found_by_words_alone_where_nothing_embeds(memory: Memory, tmp_path: Path) -> None:
    acme, bravo = make_tenant(tmp_path), make_tenant(tmp_path, "bravo")
    await memory.add(acme, "note_1", "Mimi is the cat.", agent=None)
    assert await find(memory, acme, "mimi?") == (["note_1"], "")
    assert await find(memory, acme, "vienna") == (["file:main/MEMORY.md"], "")
    assert await find(memory, acme, "pets") == ([], "")
    assert (await find(memory, bravo, "mimi"))[0] == []
    await memory.forget(acme, "note_1")
    assert (await find(memory, acme, "mimi"))[0] == []


async def test_meaning_is_searched_where_a_model_embeds(memory: Memory, tmp_path: Path) -> None:
    acme = make_tenant(tmp_path, memory=MemoryConfig(embedding_model="embedder"))
    await memory.add(acme, "note_1", "Mimi is the cat.", agent=None)
    await memory.add(acme, "note_2", "The invoice is due in May.", agent=None)
    found, why = await find(memory, acme, "our pet")
    assert (found[0], why) == ("note_1", "")
    assert (await find(memory, acme, "money"))[0][0] == "note_2"


async def test_words_are_enough_where_the_model_fails(memory: Memory, tmp_path: Path) -> None:
    acme = make_tenant(tmp_path, memory=MemoryConfig(embedding_model="broken"))
    await memory.add(acme, "note_1", "Mimi is the cat.", agent=None)
    found, why = await find(memory, acme, "mimi")
    assert found == ["note_1"]
    assert why.startswith("Searched by words alone")


async def test_notes_are_an_agents_or_everyones(memory: Memory, tmp_path: Path) -> None:
    acme = make_tenant(tmp_path)
    await memory.add(acme, "note_1", "cat one", agent="main")
    await memory.add(acme, "note_2", "cat two", agent=None)
    assert sorted((await find(memory, acme, "cat", "other"))[0]) == ["note_2"]
    assert sorted((await find(memory, acme, "cat", "main"))[0]) == ["note_1", "note_2"]
    assert [one.id for one in await memory.list(acme)] == ["file:main/MEMORY.md", "note_1", "note_2"]


async def test_a_member_finds_no_others_notes(memory: Memory, tmp_path: Path) -> None:
    sandbox = SandboxConfig(scope="member")
    acme = make_tenant(tmp_path, sandbox=sandbox, members=(Member(name="ann"), Member(name="bob")))
    await memory.add(acme.as_member("ann"), "note_1", "cat", agent=None)
    assert (await find(memory, acme.as_member("bob"), "cat"))[0] == []
    with pytest.raises(NotFound):
        await memory.forget(acme.as_member("bob"), "note_1")


async def test_what_is_no_note_is_refused(memory: Memory, tmp_path: Path) -> None:
    acme = make_tenant(tmp_path)
    with pytest.raises(InvalidRequest):
        await memory.add(acme, "note_1", " \n", agent=None)
    await memory.list(acme)
    with pytest.raises(InvalidRequest):
        await memory.forget(acme, "file:main/MEMORY.md")
