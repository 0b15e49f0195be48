"""What a node does, and what its owner does not allow."""

from pathlib import Path
from typing import Any

import pytest

from carrel.cli.node_commands import COMMANDS, Doer, NotAllowed, Owner
from carrel.errors import CarrelError


def doer(root: Path, *allowed: str) -> Doer:
    return Doer(Owner(frozenset(allowed), asks=False), root)


async def test_commands_run_and_files_are_written_beneath_the_root(tmp_path: Path) -> None:
    does = doer(tmp_path, *COMMANDS)
    assert await does.do("file.write", {"path": "a/b.txt", "content": "hello"}) == {"path": "a/b.txt", "size": 5}
    assert (await does.do("file.read", {"path": "a/b.txt"}))["content"] == "hello"
    assert (await does.do("file.list", {}))["entries"][0] | {"size": 0} == {"name": "a", "kind": "directory", "size": 0}
    ran = await does.do("run", {"argv": ["sh", "-c", "cat a/b.txt; exit 3"]})
    assert (ran["exitCode"], ran["output"], ran["timedOut"]) == (3, "hello", False)
    assert await does.do("notify", {"title": "t", "body": "b"}) == {"shown": True}


async def test_what_runs_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    ran = await doer(tmp_path, "run").do("run", {"argv": ["sh", "-c", "sleep 1000 & wait"], "timeoutSeconds": 0.1})
    assert ran["timedOut"] is True


@pytest.mark.parametrize("command", COMMANDS)
async def test_nothing_is_done_without_the_owners_leave(tmp_path: Path, command: str) -> None:
    params = {"argv": ["touch", "x"], "path": "x", "content": "x", "body": "x"}
    with pytest.raises(NotAllowed):
        await doer(tmp_path).do(command, params)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("said", "done"), [("y", True), ("n", False), ("", False)])
async def test_the_owner_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, done: bool) -> None:
    monkeypatch.setattr("builtins.input", lambda _: said)
    does = Doer(Owner(asks=True), tmp_path)
    if done:
        await does.do("run", {"argv": ["touch", "x"]})
    else:
        with pytest.raises(NotAllowed):
            await does.do("run", {"argv": ["touch", "x"]})
    assert (tmp_path / "x").exists() is done


@pytest.mark.parametrize(
    ("command", "params"),
    [
        ("run", {"argv": "ls"}), ("run", {"argv": []}), ("run", {"argv": ["no-such-program"]}),
        ("run", {"argv": ["ls"], "timeoutSeconds": 0}), ("file.read", {"path": "../x"}), ("file.read", {"path": 1}),
        ("file.read", {"path": "/etc/passwd"}), ("file.write", {"path": "../x", "content": ""}), ("dance", {}),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_told(tmp_path: Path, command: str, params: dict[str, Any]) -> None:
    with pytest.raises(CarrelError):
        await doer(tmp_path, *COMMANDS).do(command, params)
