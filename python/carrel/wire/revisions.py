"""The models of the control plane for what is declared over time: history, differences, ways back, pushes and pulls."""

from typing import Annotated, Any

from pydantic import Field

from carrel.wire.control import Answer, Order


class HistoryCommit(Answer):
    """One commit of what is declared."""

    revision: str
    author: str = Field(description="Who asked for it, or wrote it.")
    email: str
    committer: str
    at: int = Field(description="Seconds since 1970.")
    subject: str


class HistoryList(Answer):
    """Commits, newest first."""

    commits: tuple[HistoryCommit, ...]
    next: str | None = Field(None, description="The cursor of the next page; null at the end.")


class DeclaredDiff(Answer):
    """What differs between two revisions of what is declared."""

    old: str
    new: str | None = Field(None, description="Null where it is what is there now.")
    patch: str
    cut: bool = Field(False, description="The patch is longer than what is told of it.")


class RollbackOrder(Order):
    """Back to what was declared at a revision, by a new commit."""

    revision: Annotated[str, Field(min_length=1, max_length=250)]


class DeclaredRollback(Answer):
    """What was done to go back. ``commit`` is null where nothing differed."""

    revision: str
    commit: str | None
    files: tuple[str, ...]


class RevisionTaken(Answer):
    """The revision in force, who brought it, and what that changed."""

    revision: str | None
    by: str
    plan: Any


class PullOrder(Order):
    """Look at the remote branch now. ``accept`` is a commit to take though it is not ahead of the one in force."""

    accept: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$|^[0-9a-f]{64}$")] | None = None


class PullAnswer(Answer):
    """How the look ended."""

    state: str
    revision: str | None
    message: str


class GitStanding(Answer):
    """How a gateway that follows git stands, as `/v1/status` tells it in `git`."""

    mode: str = Field("", description="`push`: it is pushed to; `pull`: it looks at a remote.")
    branch: str = ""
    revision: str = Field("", description="The commit in force.")
    refused: str | None = Field(None, description="A newer commit that is not taken, and why: `reason`.")
    reason: str = ""
    url: str = ""
    pull: str | None = Field(None, description="How the last look at the remote ended: `Ready`, or what is wrong.")
    message: str = ""
