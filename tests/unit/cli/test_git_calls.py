"""What sshd and git call. The whole, over a real sshd, is in tests/system/test_push.py."""

import asyncio
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from carrel.cli import git_calls
from carrel.cli.git_calls import answer_call, asked_verb, plan_lines, ready_lines
from carrel.errors import CarrelError
from carrel.vcs.home import GitHome
from tests.fakes.declarations import declare
from tests.fakes.gitops import FakeGit
from tests.fakes.repositories import Clone
from tests.unit.cli.conftest import Serve

REPOSITORY = Path("/s/git/tenants.git")


@pytest.mark.parametrize(
    ("text", "verb"),
    [
        ("git-receive-pack 'tenants.git'", "receive-pack"),
        ("git-upload-pack '/tenants.git'", "upload-pack"),
        ("git-upload-pack 'tenants'", "upload-pack"),
        (f"git-receive-pack '{REPOSITORY}'", "receive-pack"),
    ],
)
def test_git_on_the_one_repository_is_served(text: str, verb: str) -> None:
    assert asked_verb(text, REPOSITORY) == verb


@pytest.mark.parametrize(
    "text",
    ["", "id", "git-upload-pack '/etc'", "git-upload-pack tenants.git; id", "git-upload-pack --strict tenants.git",
     "git-upload-archive 'tenants.git'", "git-receive-pack '../tenants.git'", "git upload-pack tenants.git", "'"],
)  # fmt: skip
def test_nothing_else_is(text: str) -> None:
    with pytest.raises(CarrelError):
        asked_verb(text, REPOSITORY)


def test_words_that_no_machine_says(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (
        ["git", "serve"],
        ["git", "hook", "x", "--state", "y"],
        ["git", "serve", "a", "--state-dir", "b", "c"],
    ):
        assert answer_call(words, lambda _: None) == 2
    assert "carrel git serve NAME" in capsys.readouterr().err
    assert call(Path("/nonexistent"), "update", "", monkeypatch) == 2


def call(state: Path, hook: str, updates: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(updates))
    return answer_call(["git", "hook", hook, "--state-dir", str(state)], lambda _: None)


def test_a_push_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clone = Clone(tmp_path / "clone")
    declare(clone.path, acme="plan: pro\n")
    good = clone.commit({})
    bad = clone.commit({"acme.yaml": "plan: prp\n"})
    # A hook that judges nothing, so that the objects are there.
    asyncio.run(GitHome(tmp_path, "true").make())
    clone.git("push", "-q", str(tmp_path / "git" / "tenants.git"), f"{bad}:refs/heads/scratch")
    updates = "{} {} refs/heads/main\n"
    assert call(tmp_path, "pre-receive", updates.format("0" * 40, good), monkeypatch) == 0
    assert call(tmp_path, "pre-receive", updates.format("0" * 40, bad), monkeypatch) == 1
    told = capsys.readouterr().err
    assert "acme.yaml:1:7: plan: _plans.yaml has no such plan, found 'prp'; did you mean pro?" in told
    assert call(tmp_path, "pre-receive", updates.format(bad, good), monkeypatch) == 1
    assert "refused: main would lose commits" in capsys.readouterr().err
    (tmp_path / "git" / "settings.yaml").write_text("pull: {url: 'https://example.org/t.git', unsigned: true}\n")
    assert call(tmp_path, "pre-receive", updates.format("0" * 40, good), monkeypatch) == 1
    assert "so push there" in capsys.readouterr().err


async def test_who_pushed_is_told(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "git").mkdir()
    (tmp_path / "git" / "wait.json").write_text('{"seconds": 30}')
    assert await asyncio.to_thread(call, tmp_path, "post-receive", "a b c\n", monkeypatch) == 0
    assert "The gateway is not running" in capsys.readouterr().out
    async with serve(git=FakeGit(), reconciler=Standing()):
        assert await asyncio.to_thread(call, tmp_path, "post-receive", "a b c\n", monkeypatch) == 0
    assert capsys.readouterr().out.splitlines() == [
        "aaaaaaaaaaaa is in force", "~ _plans.yaml: p0, p1, p2, p3, p4, p5 and 3 more", "~ acme: update: plan",
        "1 update", "acme: Ready: in force",
    ]  # fmt: skip


async def test_a_gateway_that_follows_no_branch_is_told_of(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "git").mkdir()
    (tmp_path / "git" / "wait.json").write_text('{"seconds": 30}')
    async with serve():
        assert await asyncio.to_thread(call, tmp_path, "post-receive", "a b c\n", monkeypatch) == 0
    assert "started without --git" in capsys.readouterr().out


class Standing:
    """A reconciler whose first look finds a tenant at work."""

    looks = 0

    async def briefly(self) -> tuple[object, Sequence[object]]:
        self.looks += 1
        state = "Reconciling" if self.looks == 1 else "Ready"
        return {}, [{"id": "acme", "state": state, "reason": "Applied", "message": "in force"}]


def test_each_tenant_is_told_once_it_is_ready_or_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([
        [{"id": "a", "state": "Ready", "message": "in force"}, {"id": "b", "state": "Reconciling", "message": "-"}],
        [{"id": "b", "state": "Stalled", "message": "no such package"}],
    ])  # fmt: skip
    monkeypatch.setattr(git_calls, "ask", lambda *_: {"tenants": next(answers)})
    monkeypatch.setattr(git_calls, "_LOOK_SECONDS", 0)
    lines = list(ready_lines(Path(), ["a", "b", "c"], time.monotonic() + 60))
    assert lines == ["a: Ready: in force", "c: gone", "b: Stalled: no such package"]
    still = [{"id": "b", "state": "Reconciling", "message": "building"}]
    monkeypatch.setattr(git_calls, "ask", lambda *_: {"tenants": still})
    assert list(ready_lines(Path(), ["b"], time.monotonic() - 1)) == ["b: Reconciling: building"]


def test_what_is_not_done_although_it_is_declared_is_told() -> None:
    held = (("a", "hold"), ("b", "refuse"))
    actions = [{"tenant": name, "verb": verb, "changes": [], "problems": []} for name, verb in held]
    plan = {"operator_changes": {}, "actions": actions, "problems": [], "confirm": "3fa94c0d1e2b"}
    assert list(plan_lines(plan)) == [
        "! a: hold", "! b: refuse", "1 hold, 1 refuse",
        "what is held is done by `carrel reconcile --confirm 3fa94c0d1e2b`",
    ]  # fmt: skip


def test_a_long_plan_is_told_in_short() -> None:
    actions = [{"tenant": f"t{n}", "verb": "create", "changes": [], "problems": ["x:1:1: y"]} for n in range(150)]
    lines = list(plan_lines({"operator_changes": {}, "actions": actions, "problems": ["p:1:1: q"]}))
    assert lines[:2] == ["+ t0: create", "    x:1:1: y"]
    assert lines[-3:] == ["and 50 more", "p:1:1: q", "150 create"]
    assert list(plan_lines({"operator_changes": {}, "actions": [], "problems": []})) == ["no tenant changes"]
    assert json.dumps(lines)
