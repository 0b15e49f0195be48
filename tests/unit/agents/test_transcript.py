"""A transcript survives what may happen to a file: a tear at any byte, garbage, a disk that is full."""

import base64
import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents import transcript
from carrel.agents.entries import Entry, Header, MessageEntry, NoteEntry, ResetEntry, StoredText, encode
from carrel.errors import CarrelError, Conflict, NotFound, StorageFull
from carrel.ids import SessionId
from carrel.tenancy.paths import TenantRoot

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
S1 = SessionId("s1")
HEADER = Header(id="s1", agent="main", created=NOW)


def message(number: int, text: str = "hello") -> MessageEntry:
    return MessageEntry(id=number, ts=NOW, role="user", content=(StoredText(text=text),))


ENTRIES: tuple[Entry, ...] = (message(1), message(2, "grüße\n{}\x00"), ResetEntry(id=3, ts=NOW), message(4, "x" * 50))
WHOLE = encode(HEADER) + b"".join(encode(entry) for entry in ENTRIES)
ENDS = [at for at, byte in enumerate(WHOLE) if byte == 0x0A]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[TenantRoot]:
    root = TenantRoot.open(tmp_path / "sessions", create=True)
    yield root
    root.close()


def put(directory: TenantRoot, data: bytes) -> None:
    directory.replace("s1.jsonl", data)


def content(directory: TenantRoot) -> bytes:
    return directory.read("s1.jsonl", limit=1 << 20)


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file of this process grows over ``size``: the kernel cuts the write, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("cut", range(len(WHOLE) + 1))
def test_a_tear_at_any_byte_costs_the_torn_line_alone(cut: int) -> None:
    loaded = transcript.parse(WHOLE[:cut])
    whole_lines = sum(end <= cut for end in ENDS)  # a line is whole, too, where only its end is missing
    assert (loaded.header == HEADER) == (whole_lines > 0)
    assert loaded.entries == ENTRIES[: max(whole_lines - 1, 0)]
    assert not loaded.problems
    assert WHOLE[:cut] == WHOLE[: loaded.size] + loaded.torn
    assert loaded.unended == (cut in ENDS)


@pytest.mark.parametrize("cut", range(0, len(WHOLE), 3))
def test_a_mended_file_takes_the_next_line(cut: int, directory: TenantRoot) -> None:
    put(directory, WHOLE[:cut])
    loaded = transcript.read(directory, S1)
    notes = [transcript.torn_note(loaded.torn)] if loaded.torn else []
    size = transcript.mend(directory, S1, loaded, HEADER, notes, sync=os.fsync)
    transcript.append(directory, S1, encode(message(9)), at=size, sync=os.fsync)
    again = transcript.read(directory, S1)
    assert again.entries[: len(loaded.entries)] == loaded.entries
    assert again.entries[-1] == message(9)
    assert not again.torn
    assert again.header == HEADER
    assert not again.problems
    kept = [e.torn for e in again.entries if isinstance(e, NoteEntry)]
    assert kept == ([base64.b64encode(loaded.torn).decode()] if loaded.torn else [])


@given(st.lists(st.one_of(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"?")), st.sampled_from(
    [encode(e).rstrip(b"\n") for e in ENTRIES])), max_size=8))  # fmt: skip
def test_garbage_between_costs_nothing_else(lines: list[bytes]) -> None:
    data = encode(HEADER) + b"".join(line + b"\n" for line in lines)
    loaded = transcript.parse(data)
    good = [line for line in lines if line in {encode(e).rstrip(b"\n") for e in ENTRIES}]
    assert [encode(entry).rstrip(b"\n") for entry in loaded.entries] == good
    assert [p.line for p in loaded.problems] == [n for n, line in enumerate(lines, 2) if line not in good]
    assert loaded.size == len(data)


def test_a_problem_says_the_line_and_why_and_nothing_of_its_content(directory: TenantRoot) -> None:
    bad = b'{"type":"message","id":1,"ts":"2026-03-01T12:00:00Z","role":"secret-role","content":[]}\n'
    put(directory, encode(HEADER) + bad + b"not json\n" + encode(message(2)))
    loaded = transcript.read(directory, S1)
    assert [p.line for p in loaded.problems] == [2, 3]
    assert "role" in loaded.problems[0].reason
    assert "secret-role" not in loaded.problems[0].reason
    size = transcript.mend(
        directory, S1, loaded, HEADER, [transcript.problem_note(p) for p in loaded.unsaid], sync=os.fsync
    )
    assert size == len(content(directory))
    assert transcript.read(directory, S1).unsaid == ()


def test_a_later_format_is_said_to_be_one() -> None:
    with pytest.raises(CarrelError, match="later version"):
        transcript.parse(b'{"type":"session","version":2,"id":"s1","more":1}\n')


def test_ids_go_on_after_the_highest() -> None:
    assert transcript.parse(WHOLE).next_id == 5
    assert transcript.parse(b"").next_id == 1


def test_a_session_is_made_once_and_whole(directory: TenantRoot) -> None:
    assert transcript.create(directory, S1, WHOLE) == len(WHOLE)
    with pytest.raises(Conflict):
        transcript.create(directory, S1, WHOLE)
    with pytest.raises(NotFound):
        transcript.read(directory, SessionId("s2"))


def test_a_full_disk_leaves_the_file_as_it_was(directory: TenantRoot) -> None:
    put(directory, WHOLE)
    with file_limit(len(WHOLE) + 20), pytest.raises(StorageFull):
        transcript.append(directory, S1, encode(message(5)), at=len(WHOLE), sync=os.fsync)
    assert content(directory) == WHOLE
    transcript.append(directory, S1, encode(message(5)), at=len(WHOLE), sync=os.fsync)
    assert transcript.read(directory, S1).entries == (*ENTRIES, message(5))


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull),
                                            (errno.EIO, CarrelError)])  # fmt: skip
def test_what_cannot_be_synced_is_taken_back(directory: TenantRoot, code: int, kind: type[CarrelError]) -> None:
    def failing(fd: int) -> None:
        raise OSError(code, os.strerror(code))

    put(directory, WHOLE)
    with pytest.raises(kind):
        transcript.append(directory, S1, encode(message(5)), at=len(WHOLE), sync=failing)
    assert content(directory) == WHOLE


def test_what_a_failed_write_left_behind_is_overwritten(directory: TenantRoot) -> None:
    put(directory, WHOLE + b'{"type":"mess')
    size = transcript.append(directory, S1, encode(message(5)), at=len(WHOLE), sync=os.fsync)
    assert content(directory) == WHOLE + encode(message(5))
    assert size == len(content(directory))


def test_a_file_that_shrank_is_not_written_to(directory: TenantRoot) -> None:
    put(directory, WHOLE)
    with pytest.raises(Conflict):
        transcript.append(directory, S1, encode(message(5)), at=len(WHOLE) + 1, sync=os.fsync)
