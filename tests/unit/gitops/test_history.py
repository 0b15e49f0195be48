from pathlib import Path

import pytest

from carrel.errors import Conflict, InvalidRequest
from carrel.gitops.history import History, patch
from carrel.ids import RequestId, TenantId
from carrel.vcs.work_tree import WorkTree
from carrel.wire.control import Actor
from tests.fakes.declarations import declare
from tests.fakes.gitops import Followed, Recorded
from tests.fakes.repositories import Clone

BY = Actor("ak_ops", RequestId("req_1"))


class Past:
    """A work tree of declarations with two commits, and its history."""

    def __init__(self, place: Path) -> None:
        self.clone = Clone(place)
        declare(place, acme="plan: pro\n")
        self.first = self.clone.commit({}, "begin")
        self.second = self.clone.commit({"acme.yaml": "plan: starter\n", "newco.yaml": "plan: pro\n"}, "change")
        self.audit = Recorded()
        self.reconciler = Followed()
        self.history = History(past=WorkTree(place), reconciler=self.reconciler, audit=self.audit)


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path / "d")


async def test_commits_of_all_and_of_one(past: Past) -> None:
    found = (await past.history.list(None, limit=9)).commits
    assert [(c.revision, c.subject, c.author) for c in found] == [
        (past.second, "change", "alice"), (past.first, "begin", "alice"),
    ]  # fmt: skip
    assert [c.subject for c in (await past.history.list(TenantId("newco"), limit=9)).commits] == ["change"]


async def test_what_differs(past: Past) -> None:
    found = await past.history.diff(past.first[:10], None)
    assert (found.old, found.new, found.cut) == (past.first, None, False)
    assert "-plan: pro\n+plan: starter\n" in found.patch
    assert "--- /dev/null\n+++ b/newco.yaml\n" in found.patch
    (past.clone.path / "acme.yaml").write_text("plan: other\n")
    assert "+plan: other" in (await past.history.diff(past.second, None)).patch
    assert "other" not in (await past.history.diff(past.first, past.second)).patch


async def test_the_way_back_is_a_new_commit(past: Past) -> None:
    done = await past.history.roll_back(past.first, by=BY)
    assert done.files == ("acme.yaml", "newco.yaml")
    assert done.commit == past.clone.git("rev-parse", "HEAD")
    assert past.clone.git("log", "--format=%an %s").split("\n") == [
        f"ak_ops Roll back to {past.first[:12]}", "alice change", "alice begin",
    ]  # fmt: skip
    assert past.clone.git("diff", past.first, "HEAD") == ""
    assert past.reconciler.settles == 1
    assert [(line[0], line[1], line[4]) for line in past.audit.lines] == [("ak_ops", "declared.rollback", "ok")]
    assert (await past.history.roll_back(past.first, by=BY)).commit is None


async def test_what_is_not_committed_is_not_lost(past: Past) -> None:
    (past.clone.path / "acme.yaml").write_text("plan: pro\n# half done\n")
    with pytest.raises(Conflict, match=r"acme\.yaml: changed and not committed"):
        await past.history.roll_back(past.first, by=BY)
    assert "half done" in (past.clone.path / "acme.yaml").read_text()


async def test_what_would_not_be_taken_is_not_gone_back_to(past: Past) -> None:
    broken = past.clone.commit({"acme.yaml": "plan: nope\n"}, "broken")
    good = past.clone.commit({"acme.yaml": "plan: pro\n"}, "mended")
    with pytest.raises(InvalidRequest, match=r"acme\.yaml:1:7"):
        await past.history.roll_back(broken, by=BY)
    assert past.clone.git("rev-parse", "HEAD") == good
    assert past.audit.lines == []


async def test_a_failure_has_its_line_too(past: Past) -> None:
    (past.clone.path / ".git" / "index.lock").write_text("held")
    with pytest.raises(Exception, match="git"):
        await past.history.roll_back(past.first, by=BY)
    assert [line[4] for line in past.audit.lines] == ["failed: git_failed"]
    (past.clone.path / ".git" / "index.lock").unlink()
    assert past.clone.git("status", "--porcelain") == ""


def test_a_patch_of_what_has_no_last_newline_or_is_no_text() -> None:
    told = patch({"a": b"x", "b": b"\xff"}, {"a": b"y", "b": b""})
    assert "-x\n\\ No newline at end of file\n+y\n" in told
    assert "b differs, and is no text" in told
