"""One tenant's memory."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

from carrel.errors import NotFound
from carrel.memory import book
from carrel.memory.book import PIECE, Note, pieces_of
from carrel.store.sqlite import open_database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = open_database(tmp_path / "memory.sqlite", schema=book.upgrade)
    yield connection
    connection.close()


def note(note_id: str, text: str, source: str = "note") -> Note:
    return Note(note_id, source, None, None, text, datetime(2026, 3, 1, tzinfo=UTC))


def found(database: apsw.Connection, match: str, meaning: tuple[str, list[float]] | None = None) -> list[str]:
    return [one.note.id for one in book.search(database, match, sees=lambda _: True, meaning=meaning)]


def test_notes_are_found_by_their_words_until_they_are_forgotten(database: apsw.Connection) -> None:
    book.put(database, note("a", "The cat is called Mimi."))
    book.put(database, note("b", "Pay the invoice."))
    assert found(database, '"mimi" OR "nothing"') == ["a"]
    assert found(database, "") == []
    book.put(database, note("a", "The dog is called Rex."))
    assert found(database, '"mimi"') == []
    book.forget(database, "a")
    assert found(database, '"rex"') == []
    with pytest.raises(NotFound):
        book.forget(database, "a")
    database.execute("INSERT INTO words (words) VALUES ('integrity-check')")


def test_meaning_finds_what_words_do_not(database: apsw.Connection) -> None:
    for note_id, text, vector in (("a", "Mimi purrs.", [1.0, 0.0]), ("b", "Pay it.", [0.0, 1.0])):
        book.put(database, note(note_id, text))
        ((number, _),) = book.unembedded(database, "m", 10)
        book.embed(database, "m", [(number, vector)])
    assert book.unembedded(database, "m", 10) == []
    both = book.search(database, '"pay"', sees=lambda _: True, meaning=("m", [0.1, 0.9]))
    assert [(one.note.id, one.by) for one in both] == [("b", ("words", "meaning")), ("a", ("meaning",))]
    assert found(database, '"pay"', ("m", [0.9, 0.1])) == ["b", "a"]
    assert found(database, "", ("m", [0.9, 0.1])) == ["a", "b"]
    assert found(database, "", ("other", [0.9, 0.1])) == []
    assert found(database, "", ("m", [0.9, 0.1, 0.0])) == []
    assert len(book.unembedded(database, "other", 10)) == 2


def test_vectors_of_a_piece_that_is_gone_are_not_kept(database: apsw.Connection) -> None:
    book.put(database, note("a", "x"))
    book.embed(database, "m", [(999, [1.0]), (1, [1.0])])
    book.forget(database, "a")
    assert database.execute("SELECT count(*) FROM vectors").fetchall() == [(0,)]


def test_files_are_followed(database: apsw.Connection) -> None:
    book.put(database, note("a", "kept"))
    book.follow(database, {"file:x": note("file:x", "first", "x"), "file:y": note("file:y", "other", "y")})
    book.follow(database, {"file:x": note("file:x", "second", "x")})
    assert [(one.id, one.text) for one in book.notes(database)] == [("a", "kept"), ("file:x", "second")]
    assert found(database, '"first" OR "other"') == []


def test_texts_are_cut_at_paragraphs_and_none_is_too_long() -> None:
    assert pieces_of("a\n\nb") == ["a\n\nb"]
    assert pieces_of("") == []
    long = pieces_of("\n\n".join(["x" * 700, "y" * 700, "z" * 3000]))
    assert all(len(piece) <= PIECE for piece in long)
    assert "".join(long).replace("\n", "") == "x" * 700 + "y" * 700 + "z" * 3000
