"""What is kept of chat completions, for how long, and how much of it."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import apsw
import pytest

from carrel.errors import InvalidRequest, NotFound, TooLarge
from carrel.responses import book, completions
from carrel.responses.completions import Completion, Wanted
from carrel.store.sqlite import AlreadyThere
from tests.fakes.clock import FakeClock

NOW = FakeClock().now()


@pytest.fixture
def db() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    completions.upgrade(connection)
    yield connection
    connection.close()


def kept(completion_id: str, *, at: int = 0, owner: str = "", model: str = "m", **notes: str) -> Completion:
    body = {"id": completion_id, "metadata": notes}
    return Completion(body, ({"role": "user", "content": "a"},), model, NOW + timedelta(seconds=at), owner)


def ids(db: apsw.Connection, owner: str = "", now: datetime = NOW, **wanted: Any) -> tuple[list[str], bool]:
    found, more = completions.page(owner, Wanted(**{"limit": 10, **wanted}), now=now)(db)
    return [one.id for one in found], more


def test_it_comes_back_as_it_was_kept_to_its_owner_alone(db: apsw.Connection) -> None:
    completions.put(kept("c", owner="ann", a="b"), now=NOW)(db)
    assert completions.get("ann", "c", now=NOW)(db) == kept("c", owner="ann", a="b")
    noted = completions.note("ann", "c", {"x": "y"}, now=NOW)(db)
    assert noted == completions.read("ann", "c", now=NOW)(db)
    assert json.loads(noted.text)["metadata"] == completions.get("ann", "c", now=NOW)(db).metadata == {"x": "y"}
    assert ids(db, "ann", metadata=(("x", "y"),)) == (["c"], False)
    assert ids(db, "ann", metadata=(("a", "b"),)) == ids(db, "") == ([], False)
    for owner, name in (("", "c"), ("bob", "c"), ("ann", "x")):
        works: tuple[Callable[[apsw.Connection], object], ...] = (
            completions.get(owner, name, now=NOW), completions.read(owner, name, now=NOW),
            completions.note(owner, name, {}, now=NOW), completions.remove(owner, name),
        )  # fmt: skip
        for work in works:
            with pytest.raises(NotFound):
                work(db)
    completions.remove("ann", "c")(db)
    assert ids(db, "ann") == ([], False)


def test_one_is_never_written_over(db: apsw.Connection) -> None:
    completions.put(kept("c", a="b"), now=NOW)(db)
    with pytest.raises(AlreadyThere):
        completions.put(kept("c", a="other"), now=NOW)(db)
    assert completions.get("", "c", now=NOW)(db).metadata == {"a": "b"}


def test_a_page_goes_on_after_the_one_before_also_among_those_of_one_moment(db: apsw.Connection) -> None:
    for name, at in (("d", 0), ("b", 1), ("a", 1), ("c", 2)):
        completions.put(kept(name, at=at, model="n" if name == "c" else "m"), now=NOW)(db)
    assert ids(db) == (["d", "a", "b", "c"], False)
    assert ids(db, limit=2) == (["d", "a"], True)
    assert ids(db, limit=2, after="a") == (["b", "c"], False)
    assert ids(db, limit=3, newest_first=True, after="c") == (["b", "a", "d"], False)
    assert ids(db, model="m", after="d", limit=1) == (["a"], True)
    completions.put(kept("z", owner="ann"), now=NOW)(db)
    for missing in ("x", "z"):
        with pytest.raises(InvalidRequest):
            ids(db, after=missing)


def test_a_page_is_of_so_many_bytes_and_holds_no_messages(db: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        completions.put(kept(name, at=ord(name), note="x" * (500 if name == "c" else 60)), now=NOW)(db)
    # Whoever unpacked what they were asked with would see that this is none.
    db.execute("UPDATE completions SET messages = 'no JSON'")
    assert ids(db) == (["a", "b", "c", "d"], False)
    monkeypatch.setattr(completions, "PAGE_BYTES", 250)
    assert ids(db) == (["a", "b"], True)
    assert ids(db, after="b") == (["c"], True), "one that is too long for a page is one by itself"
    assert ids(db, after="c") == (["d"], False)
    assert ids(db, limit=1) == (["a"], True)


def test_text_that_no_encoding_can_carry_is_kept_as_it_can_be(db: apsw.Connection) -> None:
    odd = Completion({"id": "c", "said": "a\ud800b"}, (), "m", NOW)
    completions.put(odd, now=NOW)(db)
    assert completions.get("", "c", now=NOW)(db).body["said"] == "a?b"


def test_what_is_too_old_is_gone_before_another_is_kept(db: apsw.Connection) -> None:
    completions.put(kept("old", at=-1), now=NOW)(db)
    completions.put(kept("new"), now=NOW)(db)
    last = NOW + book.KEPT - timedelta(seconds=1)
    assert ids(db, now=last) == (["old", "new"], False)
    assert completions.read("", "old", now=last)(db).id == "old"
    later = NOW + book.KEPT
    assert ids(db, now=later) == (["new"], False)
    works: tuple[Callable[[apsw.Connection], object], ...] = (
        completions.get("", "old", now=later), completions.read("", "old", now=later),
        completions.note("", "old", {}, now=later),
    )  # fmt: skip
    for work in works:
        with pytest.raises(NotFound):
            work(db)
    with pytest.raises(InvalidRequest):
        ids(db, now=later, after="old")
    completions.remove("", "old")(db)
    assert ids(db, now=last) == (["new"], False)


def test_the_oldest_go_by_age_number_and_size(db: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    completions.put(kept("old", at=-1), now=NOW)(db)
    completions.put(kept("new"), now=NOW + book.KEPT)(db)
    assert ids(db) == (["new"], False)
    monkeypatch.setattr(book, "MOST", 2)
    for number in range(3):
        completions.put(kept(f"n{number}", at=number + 1), now=NOW)(db)
    assert ids(db) == (["n1", "n2"], False)
    for module in (book, completions):
        monkeypatch.setattr(module, "MOST_BYTES", 150)
    completions.put(kept("n3", at=5), now=NOW)(db)
    assert ids(db)[0][-1] == "n3"
    assert len(ids(db)[0]) < 3
    with pytest.raises(TooLarge):
        completions.put(kept("long", a="x" * 200), now=NOW)(db)
