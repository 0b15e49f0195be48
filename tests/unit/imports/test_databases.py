"""Databases are read from a copy, with their log; one that is none is told."""

from pathlib import Path

import pytest

from carrel.errors import InvalidRequest, UnsafePath
from carrel.imports.databases import document, opened, optional
from carrel.imports.source import Source
from tests.fakes.openclaw import databases

PATH = "agents/main/agent/openclaw-agent.sqlite"


def test_the_newest_rows_come_and_nothing_is_changed(tmp_path: Path) -> None:
    top = databases(tmp_path / "top")
    before = {path: path.read_bytes() for path in top.rglob("*") if path.is_file()}
    with Source(top) as source, opened(source, PATH) as database:
        assert database.has("transcript_events")
        assert not database.has("other")
        assert len(list(database.rows("SELECT * FROM transcript_events"))) > 5
        with pytest.raises(InvalidRequest):
            list(database.rows("DELETE FROM transcript_events"))
    assert {path: path.read_bytes() for path in top.rglob("*") if path.is_file()} == before


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    (tmp_path / "b.sqlite").symlink_to("a.sqlite")
    with Source(tmp_path) as source:
        with pytest.raises(InvalidRequest, match="cannot be read"), opened(source, "a.sqlite") as database:
            database.has("x")
        with pytest.raises(UnsafePath), opened(source, "b.sqlite"):
            pass
        assert optional(source, "a.sqlite")
        assert not optional(source, "b.sqlite")
    assert document("[]") == document("x") == document(None) == {}
