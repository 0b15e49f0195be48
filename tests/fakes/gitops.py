"""A bare repository with declarations, what brings them into force, and what is written down of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carrel.errors import NotFound, Unauthorized
from carrel.ids import TenantId
from carrel.plan.plan import Plan
from carrel.vcs.bare import Bare
from carrel.vcs.git import Author
from carrel.wire import control, revisions
from carrel.wire.control import AuditPage, AuditQuery
from tests.fakes.records import Noting

GATEWAY = b"providers: {}\n"


class Recorded(Noting):
    """An audit log of (actor, action, before, after, outcome), and what each line was about."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, object, object, str]] = []
        self.targets: list[str] = []

    async def record(
        self, *, actor: str, action: str, target: str, request_id: str, outcome: str,
        tenant: str | None = None, before: object = None, after: object = None,
    ) -> None:  # fmt: skip
        self.lines.append((actor, action, before, after, outcome))
        self.targets.append(target)

    async def page(self, query: AuditQuery) -> AuditPage:
        """The newest line of an action, or of all whose names begin so, about a target and with a text where asked."""
        assert (query.order, query.limit) == ("newest", 1)
        action = query.action or "*"
        found = [
            {"action": one[1], "before": one[2], "after": one[3]}
            for one, target in zip(self.lines, self.targets, strict=True)
            if (one[1].startswith(action[:-1]) if action.endswith("*") else one[1] == action)
            and query.target in (None, target)
            and (query.text is None or query.text in f"{one[2]} {one[3]}")
        ]
        return AuditPage.model_validate({"lines": found[-1:], "next": None})


class Followed:
    """A reconciler that is told where to look, and remembers what was there."""

    def __init__(self) -> None:
        self.moves: list[dict[str, bytes]] = []
        self.digests: dict[str, str] = {}
        self.settles = 0

    async def move_to(self, directory: Path, digests: Mapping[str, str]) -> Plan:
        self.digests = dict(digests)
        self.moves.append({file.name: file.read_bytes() for file in directory.iterdir()})
        return Plan()

    async def settled(self) -> object:
        self.settles += 1
        return None


async def put(
    bare: Bare, files: dict[str, bytes | None], *, by: str = "git:alice", how: str = "push", parent: Any = "tip",
    message: str = "a push\n",
) -> str:  # fmt: skip
    """A commit with ``files`` on the branch, as a push by ``by`` leaves it; on the tip or on ``parent``."""
    tip = await bare.tip()
    commit = await bare.commit_files(tip if parent == "tip" else parent, files, message, Author("alice", "a@x"))
    await bare.advance(commit, tip, Author(by, by), how=how)
    return commit


class FakeHistory:
    """Two commits, of which the older can be gone back to."""

    OLD, NEW = "a" * 40, "b" * 40

    def __init__(self) -> None:
        self.rolled_back: list[tuple[str, str]] = []

    async def list(self, tenant: TenantId | None, *, limit: int) -> revisions.HistoryList:
        subjects = {self.NEW: "Suspend acme", self.OLD: "begin"}
        commits = [
            revisions.HistoryCommit(revision=r, author="ak_ops", email="e", committer="c", at=1_800_000_000, subject=s)
            for r, s in subjects.items()
            if tenant is None or tenant in s
        ]
        return revisions.HistoryList(commits=tuple(commits[:limit]))

    async def diff(self, old: str, new: str | None) -> revisions.DeclaredDiff:
        self._known(old)
        return revisions.DeclaredDiff(old=self.OLD, new=new, patch="-plan: pro\n+plan: team\n\x1b[2J", cut=new is None)

    async def roll_back(self, revision: str, *, by: control.Actor) -> revisions.DeclaredRollback:
        self._known(revision)
        self.rolled_back.append((revision, by.name))
        if len(self.rolled_back) > 1:
            return revisions.DeclaredRollback(revision=self.OLD, commit=None, files=())
        return revisions.DeclaredRollback(revision=self.OLD, commit="c" * 40, files=("acme.yaml",))

    def _known(self, revision: str) -> None:
        if not self.OLD.startswith(revision):
            raise NotFound("There is no such commit.")


class FakeGit:
    """A branch that is followed."""

    def __init__(self) -> None:
        self.nudges = 0
        self.accepted: list[str | None] = []

    async def take(self, *, by: control.Actor) -> revisions.RevisionTaken:
        plan = {
            "operator_changes": {"_plans.yaml": [{"path": f"p{n}", "old": "1", "new": "2"} for n in range(9)]},
            "actions": [
                {
                    "tenant": "acme",
                    "verb": "update",
                    "changes": [{"path": "plan", "old": "a", "new": "b"}],
                    "problems": [],
                },
                {"tenant": "bravo", "verb": "unchanged", "changes": [], "problems": []},
            ],
            "problems": [],
        }
        return revisions.RevisionTaken(revision="a" * 40, by="git:alice", plan=plan)

    async def pull(self, order: revisions.PullOrder, *, by: control.Actor) -> revisions.PullAnswer:
        self.accepted.append(order.accept)
        state = "Ready" if order.accept else "Diverged"
        return revisions.PullAnswer(state=state, revision="a" * 40, message="told why")

    def nudge(self, headers: Mapping[str, str], body: bytes) -> None:
        if headers.get("X-Gitlab-Token") != "right" or body != b"{}":
            raise Unauthorized("The webhook's signature is missing or wrong.")
        self.nudges += 1

    def report(self) -> Mapping[str, object]:
        return {"mode": "push", "revision": "a" * 40}
