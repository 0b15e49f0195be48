"""The index only saves reading: without it, or with one that lies, the list of sessions is the same."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carrel.agents import transcript
from carrel.agents.entries import Header, MessageEntry, StoredText, encode
from carrel.agents.shelf import INDEX, Shelf
from carrel.ids import SessionId
from carrel.tenancy.paths import TenantRoot

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[TenantRoot]:
    root = TenantRoot.open(tmp_path / "sessions", create=True)
    for name in ("a", "b", "c"):
        transcript.create(root, SessionId(name), encode(Header(id=name, agent="main", created=NOW, key=f"key-{name}")))
    yield root
    root.close()


def loaded(directory: TenantRoot) -> Shelf:
    shelf = Shelf()
    shelf.load(directory)
    return shelf


def grow(directory: TenantRoot, name: str) -> None:
    size = os.stat(f"{name}.jsonl", dir_fd=directory.fd).st_size
    entry = MessageEntry(id=1, ts=NOW, role="user", content=(StoredText(text="x"),))
    transcript.append(directory, SessionId(name), encode(entry), at=size, sync=os.fsync)


def test_it_is_made_from_the_transcripts(directory: TenantRoot) -> None:
    shelf = loaded(directory)
    assert set(shelf.sessions) == {"a", "b", "c"}
    found = shelf.by_key("main", "key-b")
    assert found is not None
    assert found.session_id == "b"
    assert shelf.by_key("other", "key-b") is None
    assert directory.read(INDEX, limit=1 << 20).count(b"\n") == 3


def test_what_changed_behind_the_index_is_read_anew(directory: TenantRoot) -> None:
    loaded(directory)
    grow(directory, "a")
    directory.remove("b.jsonl")
    shelf = loaded(directory)
    assert shelf.sessions[SessionId("a")].messages == 1
    assert set(shelf.sessions) == {"a", "c"}


@pytest.mark.parametrize(
    "index", [b"", b"garbage\n{}\n\xff\n", b'{"session":{"session_id":"a"}}\n{"gone":', b"\x00" * 100]
)
def test_an_index_that_is_torn_or_lies_costs_nothing(directory: TenantRoot, index: bytes) -> None:
    before = loaded(directory).sessions
    directory.replace(INDEX, index)
    assert loaded(directory).sessions == before


def test_it_is_believed_where_the_transcript_has_not_changed(directory: TenantRoot) -> None:
    shelf = loaded(directory)
    shelf.put(replace(shelf.sessions[SessionId("a")], label="kept in the index alone"))
    shelf.note(directory, SessionId("a"))
    assert loaded(directory).sessions[SessionId("a")].label == "kept in the index alone"


def test_the_log_does_not_grow_for_ever(directory: TenantRoot) -> None:
    shelf = loaded(directory)
    for _ in range(2000):
        shelf.note(directory, SessionId("a"))
    assert directory.read(INDEX, limit=1 << 24).count(b"\n") < 600
    assert loaded(directory).sessions == shelf.sessions


def test_what_is_gone_is_forgotten(directory: TenantRoot) -> None:
    shelf = loaded(directory)
    directory.remove("a.jsonl")
    shelf.drop(SessionId("a"))
    shelf.note(directory, SessionId("a"))
    assert shelf.by_key("main", "key-a") is None
    assert set(loaded(directory).sessions) == {"b", "c"}


def test_other_files_are_no_sessions(directory: TenantRoot) -> None:
    directory.replace(".hidden.jsonl", b"x")
    directory.replace("notes.txt", b"x")
    os.mkdir("d.jsonl", dir_fd=directory.fd)
    os.symlink("a.jsonl", "link.jsonl", dir_fd=directory.fd)
    assert set(loaded(directory).sessions) == {"a", "b", "c"}


def test_a_transcript_that_cannot_be_read_hides_no_other(directory: TenantRoot) -> None:
    directory.replace("z.jsonl", b'{"type":"session","version":9}\n')
    assert set(loaded(directory).sessions) == {"a", "b", "c"}


def test_the_log_is_written_anew_while_others_put_sessions_on_the_shelf(directory: TenantRoot) -> None:
    shelf = loaded(directory)
    model = shelf.sessions[SessionId("a")]
    for number in range(200):
        shelf.put(replace(model, session_id=SessionId(f"s{number}")))

    def write() -> None:
        for _ in range(4000):
            shelf.note(directory, SessionId("a"))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            while not writing.done():
                shelf.put(replace(model, session_id=SessionId("more")))
                shelf.drop(SessionId("more"))
            writing.result()
    finally:
        sys.setswitchinterval(before)
