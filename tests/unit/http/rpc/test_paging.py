"""Cursors."""

from typing import Any

import pytest

from carrel.errors import InvalidRequest
from carrel.http.rpc.methods import REGISTRY
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


ONE_ANSWER = {
    "agents.files.list": "an agent has the few files that have names",
    "channels.status": "how the few channels that are declared stand at one moment",
    "config.get": "what is wrong with one document",
    "cron.status": "how the jobs stand at one moment",
    "health": "the agents are a part of it",
    "memory.search": "the best of what was found, as many as `limit` says",
    "node.connect": "one node's welcome",
    "node.describe": "what one node offers",
    "packages.list": "one set, which is built as one",
    "rpc.discover": "one document",
    "sessions.preview": "as many as `keys` names",
    "skills.bins": "what one tenant's skills need",
    "tenants.get": "the agents are a part of it",
    "tenants.quota.status": "there are as many as there are kinds",
    "tenants.status": "how one tenant stands",
    "tenants.usage": "a report, whose rows add up",
    "tenants.usage.history": "a report, as many months as are asked for",
    "voicewake.get": "one setting",
}
"""Methods with a list in their result that is no list of things, and why."""


def test_every_method_that_lists_does_so_in_pages() -> None:
    for method in REGISTRY:
        shape = method.result.model_json_schema(by_alias=True, mode="serialization").get("properties", {})
        has_list = any(field.get("type") == "array" for field in shape.values())
        if method.changes or not has_list:
            continue
        paged = {"limit", "cursor"} <= set(method.params.model_fields) and "next" in shape
        assert paged == (method.name not in ONE_ANSWER), (
            f"{method.name}: parameters of what lists are a `wire.rpc.Page`, its result has `next`, and `paging.paged` "
            "makes the page; or say in ONE_ANSWER why it is one answer"
        )
