"""`packages.*`."""

from typing import Any

from tests.unit.http.rpc.conftest import Rpc


async def test_what_there_is_and_what_there_may_be(rpc: Rpc) -> None:
    assert (await rpc("packages.list"))["state"] == "ready"
    found = await rpc("packages.search", {"query": "j", "limit": 1})
    assert ([(one["name"], one["chosen"], one["version"]) for one in found["packages"]], found["next"]) == (
        [("jq", True, "1.7")],
        "jq",
    )


async def test_changes_are_the_callers_own(rpc: Rpc) -> None:
    assert (await rpc("packages.add", {"packages": ["ripgrep"]}))["packages"] == ["jq", "ripgrep"]
    assert (await rpc("packages.remove", {"packages": ["jq"]}))["packages"] == []


async def test_what_is_no_change(rpc: Rpc) -> None:
    wrong: tuple[Any, ...] = ({}, {"packages": []}, {"packages": "jq"}, {"packages": [""]}, {"packages": ["x" * 200]})
    for params in wrong:
        assert (await rpc("packages.add", params))["code"] == -32602, params
