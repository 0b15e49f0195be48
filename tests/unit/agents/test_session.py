"""A session in use adds lines that are on the disk, numbered one after the other, whoever is cancelled."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carrel.agents import transcript
from carrel.agents.entries import Entry, Header, MessageEntry, NoteEntry, ResetEntry, StoredText
from carrel.agents.session import OpenSession, sessions_directory
from carrel.agents.transcript import Loaded
from carrel.agents.workers import Workers
from carrel.errors import StorageFull
from carrel.ids import SessionId
from carrel.tasks import Tasks
from carrel.tenancy.handle import Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_tenant

HEADER = Header(id="s1", agent="main", created=datetime(2026, 3, 1, tzinfo=UTC))


@dataclass
class Rig:
    """A session and what it told."""

    tenant: Tenant
    workers: Workers
    tasks: Tasks
    told: list[int] = field(default_factory=list)
    full: bool = False

    def __post_init__(self) -> None:
        self.session = self.opened(None)

    def opened(self, loaded: Loaded | None) -> OpenSession:
        """The session, with what was found on the disk."""
        return OpenSession(
            self.tenant, HEADER, loaded, clock=FakeClock(), workers=self.workers, tasks=self.tasks,
            written=self.written, sync=self.sync,
        )  # fmt: skip

    def written(self, entries: Sequence[Entry], size: int) -> None:
        self.told += [entry.id for entry in entries]

    def is_full(self, full: bool) -> None:
        self.full = full

    def sync(self, fd: int) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fdatasync(fd)

    def on_disk(self) -> tuple[Entry, ...]:
        directory = sessions_directory(self.tenant)
        try:
            return transcript.read(directory, SessionId("s1")).entries
        finally:
            directory.close()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    tenant, workers, tasks = make_tenant(tmp_path), Workers(), Tasks("test")
    yield Rig(tenant, workers, tasks)
    await tasks.close()
    workers.close()
    tenant.root.close()


def message(text: str) -> MessageEntry:
    return MessageEntry(role="user", content=(StoredText(text=text),))


async def test_it_has_no_file_before_its_first_line(rig: Rig) -> None:
    assert (rig.session.made, rig.session.begun) == (False, False)
    await rig.session.append(message("a"), message("b"))
    assert (rig.session.made, rig.session.begun) == (True, True)
    assert rig.on_disk() == tuple(rig.session.entries)
    assert [entry.id for entry in rig.session.entries] == rig.told == [1, 2]


async def test_lines_added_side_by_side_are_all_there(rig: Rig) -> None:
    await asyncio.gather(*(rig.session.append(message(str(n))) for n in range(20)))
    assert rig.on_disk() == tuple(rig.session.entries)
    assert rig.told == list(range(1, 21))


async def test_a_cancelled_append_is_whole(rig: Rig) -> None:
    await rig.session.append(message("a"))
    tasks = [asyncio.ensure_future(rig.session.append(message(str(n)))) for n in range(8)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await rig.session.append(ResetEntry())
    assert rig.on_disk() == tuple(rig.session.entries)
    assert [entry.id for entry in rig.on_disk()] == list(range(1, len(rig.on_disk()) + 1))


async def test_a_full_disk_adds_nothing(rig: Rig) -> None:
    await rig.session.append(message("a"))
    rig.is_full(True)
    with pytest.raises(StorageFull):
        await rig.session.append(message("b"))
    assert rig.told == [1]
    assert rig.on_disk() == tuple(rig.session.entries)
    rig.is_full(False)
    await rig.session.append(message("c"))
    assert rig.told == [1, 2]
    assert rig.on_disk() == tuple(rig.session.entries)


@pytest.mark.parametrize(
    "tail", [b'{"type":"mess', b'{"id":2,"ts":"2026-03-01T12:00:00Z","type":"reset"}', b"bad\n", b""]
)
async def test_a_file_is_put_in_order_before_it_is_added_to(rig: Rig, tail: bytes) -> None:
    await rig.session.append(message("a"))
    directory = sessions_directory(rig.tenant)
    directory.replace("s1.jsonl", directory.read("s1.jsonl", limit=1 << 20) + tail)
    loaded = transcript.read(directory, SessionId("s1"))
    directory.close()
    again = rig.opened(loaded)
    await again.mend(loaded)
    await again.append(message("z"))
    assert rig.on_disk() == tuple(again.entries)
    assert rig.on_disk()[-1].id == again.next_id - 1
    notes = [entry for entry in rig.on_disk() if isinstance(entry, NoteEntry)]
    assert len(notes) == (tail in (b'{"type":"mess', b"bad\n"))
    assert len(again.problems) == (tail == b"bad\n")
