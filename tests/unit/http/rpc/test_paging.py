"""Cursors."""

from typing import Any

import pytest

from carrel.errors import InvalidRequest
from carrel.http.rpc.paging import paged
from carrel.wire.rpc import Page


def pages(entries: list[str], **more: Any) -> list[list[str]]:
    found, cursor = [], None
    while True:
        page, cursor = paged(entries, lambda one: (one,), Page(limit=2, cursor=cursor), **more)
        found.append(page)
        if cursor is None:
            return found


def test_every_entry_is_on_one_page() -> None:
    assert pages(["c", "a", "b"]) == [["a", "b"], ["c"]]
    assert pages(["c", "a", "b"], newest_first=True) == [["c", "b"], ["a"]]
    assert pages([]) == [[]]


def test_a_list_that_changes_meanwhile_repeats_nothing() -> None:
    _, cursor = paged(["a", "b", "c"], lambda one: (one,), Page(limit=2))
    page, _ = paged(["aa", "c", "d"], lambda one: (one,), Page(limit=2, cursor=cursor))
    assert page == ["c", "d"]


@pytest.mark.parametrize("cursor", ["!", "e30", "W10", "WzFd", "A"])
def test_a_cursor_of_somebody_elses_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequest):
        paged(["a"], lambda one: (one,), Page(cursor=cursor))
