"""What is kept of responses, for how long, and how much of it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import apsw
import pytest

from carrel.errors import NotFound, TooLarge
from carrel.responses import book
from carrel.responses.book import Kept
from tests.fakes.clock import FakeClock

NOW = FakeClock().now()


@pytest.fixture
def db() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    book.upgrade(connection)
    yield connection
    connection.close()


def kept(response_id: str, *, at: int = 0, **more: Any) -> Kept:
    body = {"id": response_id, "status": "completed", "output": []}
    return Kept(**{"body": body, "items": ({"role": "user"},), "created": NOW + timedelta(seconds=at), **more})


def test_it_comes_back_as_it_was_kept(db: apsw.Connection) -> None:
    whole = kept("r", previous="q", session="s", owner="ann", events=({"type": "x", "sequence_number": 0},))
    book.put(whole, now=NOW)(db)
    assert book.get("ann", "r", now=NOW)(db) == whole
    book.put(whole.ended({"id": "another", "status": "failed"}), now=NOW)(db)
    assert (book.get("ann", "r", now=NOW)(db).status, book.get("ann", "r", now=NOW)(db).id) == ("failed", "r")
    for owner, name in (("", "r"), ("bob", "r"), ("ann", "x")):
        with pytest.raises(NotFound):
            book.get(owner, name, now=NOW)(db)
        with pytest.raises(NotFound):
            book.remove(owner, name)(db)
    book.remove("ann", "r")(db)
    with pytest.raises(NotFound):
        book.get("ann", "r", now=NOW)(db)


def test_text_that_no_encoding_can_carry_is_kept_as_it_can_be(db: apsw.Connection) -> None:
    book.put(kept("r", items=({"content": "a\ud800b"},)), now=NOW)(db)
    assert book.get("", "r", now=NOW)(db).items == ({"content": "a?b"},)


def test_a_conversation_is_a_chain_oldest_first(db: apsw.Connection) -> None:
    for name, before in (("a", None), ("b", "a"), ("c", "b")):
        book.put(kept(name, previous=before), now=NOW)(db)
    assert [one.id for one in book.chain("", "c", now=NOW)(db)] == ["a", "b", "c"]
    book.remove("", "b")(db)
    with pytest.raises(NotFound):
        book.chain("", "c", now=NOW)(db)


def test_what_is_too_old_is_gone_before_another_is_kept(db: apsw.Connection) -> None:
    book.put(kept("old", at=-1), now=NOW)(db)
    book.put(kept("new", previous="old"), now=NOW)(db)
    last, later = NOW + book.KEPT - timedelta(seconds=1), NOW + book.KEPT
    assert [one.id for one in book.chain("", "new", now=last)(db)] == ["old", "new"]
    assert book.get("", "new", now=later)(db).id == "new"
    with pytest.raises(NotFound):
        book.get("", "old", now=later)(db)
    with pytest.raises(NotFound):
        book.chain("", "new", now=later)(db)
    book.remove("", "old")(db)


def test_the_old_go_by_age_by_number_and_by_size(db: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    book.put(kept("old", at=-1), now=NOW)(db)
    book.put(kept("new"), now=NOW + book.KEPT)(db)
    assert ids(db) == ["new"]
    monkeypatch.setattr(book, "MOST", 2)
    for number in range(3):
        book.put(kept(f"n{number}", at=number + 1), now=NOW)(db)
    assert ids(db) == ["n1", "n2"]
    monkeypatch.setattr(book, "MOST_BYTES", 300)
    book.put(kept("large", at=9, items=({"content": "x" * 180},)), now=NOW)(db)
    assert ids(db) == ["large"]
    with pytest.raises(TooLarge, match="store"):
        book.put(kept("huge", items=({"content": "x" * 600},)), now=NOW)(db)


def ids(db: apsw.Connection) -> list[str]:
    return [str(row[0]) for row in db.execute("SELECT id FROM responses ORDER BY created")]
