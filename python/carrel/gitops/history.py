"""What was declared before: the commits that made it, what differs between two, and the way back to one.

The way back is a new commit with the old files. It is judged as any other, and no commit is ever taken away.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from carrel.declare.load import load_files
from carrel.errors import Conflict, InvalidRequest
from carrel.ids import TenantId
from carrel.vcs.bare import Commit
from carrel.vcs.git import Author
from carrel.vcs.plain import Change
from carrel.wire import revisions
from carrel.wire.control import Actor

MAX_DIFF: Final = 1 << 20


class Past(Protocol):
    """The commits of declarations, in a work tree or in a bare repository."""

    async def commits(self, names: Sequence[str], *, limit: int) -> tuple[Commit, ...]:
        """The newest, of those that changed files of ``names`` where any are named."""
        ...

    async def commit_of(self, revision: str) -> str:
        """The commit that ``revision`` means; raises NotFound."""
        ...

    async def uncommitted(self) -> tuple[str, ...]:
        """Files that are not as the newest commit has them."""
        ...

    async def files(self, revision: str | None) -> Mapping[str, bytes]:
        """The declarations of a commit, or those of now, by name; raises Conflict where they may not be read."""
        ...

    async def write(self, changes: Mapping[str, Change], message: str, author: Author) -> str | None:
        """All of ``changes`` in one commit; raises Moved, and Conflict where nothing is changed here."""
        ...


class Recorder(Protocol):
    """Writes down who changed what."""

    def change(
        self, *, actor: str, action: str, target: str, request_id: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> AbstractAsyncContextManager[None]:  # fmt: skip
        """Make a change within it: its one line says how it ended. Raises StorageFull where none could be kept."""
        ...


class Settles(Protocol):
    """Brings what was just written into force."""

    async def settled(self) -> object: ...


class History:
    """For operators."""

    def __init__(self, *, past: Past, reconciler: Settles, audit: Recorder) -> None:
        self._past = past
        self._reconciler = reconciler
        self._audit = audit

    async def list(self, tenant: TenantId | None, *, limit: int) -> revisions.HistoryList:
        """The newest commits, of all declarations or of one tenant's."""
        names = () if tenant is None else (f"{tenant}.yaml",)
        found = await self._past.commits(names, limit=limit)
        return revisions.HistoryList(
            commits=tuple(
                revisions.HistoryCommit(
                    revision=c.sha, author=c.author, email=c.email, committer=c.committer, at=c.at, subject=c.subject
                )
                for c in found
            )
        )  # fmt: skip

    async def diff(self, old: str, new: str | None) -> revisions.DeclaredDiff:
        """What differs from ``old`` to ``new``, or to what is there now."""
        first = await self._past.commit_of(old)
        second = await self._past.commit_of(new) if new is not None else None
        before, after = await self._past.files(first), await self._past.files(second)
        text = await asyncio.to_thread(patch, before, after)
        return revisions.DeclaredDiff(old=first, new=second, patch=text[:MAX_DIFF], cut=len(text) > MAX_DIFF)

    async def roll_back(self, revision: str, *, by: Actor) -> revisions.DeclaredRollback:
        """Make what is declared what it was at ``revision``, by a new commit; raises InvalidRequest, Conflict."""
        commit = await self._past.commit_of(revision)
        open_ = await self._past.uncommitted()
        if open_:
            raise Conflict(f"{', '.join(open_[:5])}: changed and not committed. Commit that, or take it back, first.")
        then, now = await self._past.files(commit), await self._past.files(None)
        changes = {
            name: Change(now.get(name), then.get(name))
            for name in sorted({*then, *now})
            if now.get(name) != then.get(name)
        }
        if not changes:
            return revisions.DeclaredRollback(revision=commit, commit=None, files=())
        await self._judge(commit, then)
        message = f"Roll back to {commit[:12]}\n\nAsked for by {by.name}.\n"
        async with self._audit.change(
            actor=by.name, action="declared.rollback", target=commit, request_id=by.request_id, after=sorted(changes)
        ):
            made = await self._past.write(changes, message, Author.of(by.name))
            await self._reconciler.settled()
        return revisions.DeclaredRollback(revision=commit, commit=made, files=tuple(changes))

    async def _judge(self, commit: str, files: Mapping[str, bytes]) -> None:
        tree = await asyncio.to_thread(load_files, files)
        if tree.errors:
            raise InvalidRequest(
                f"{commit[:12]} would not be taken by this version: " + " ".join(str(p) for p in tree.errors[:10]),
                details={"problems": [str(p) for p in tree.errors]},
            )


def patch(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str:
    """What differs between two sets of files, as a unified diff. What is no text is named and not shown."""
    return "".join(text for name in sorted({*before, *after}) for text in _differs(name, before, after))


def _differs(name: str, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> Iterator[str]:
    old, new = before.get(name), after.get(name)
    if old == new:
        return
    try:
        lines, others = ((data or b"").decode().splitlines(keepends=True) for data in (old, new))
    except UnicodeDecodeError:
        yield f"{name} differs, and is no text\n"
        return
    import difflib  # noqa: PLC0415 - for whoever asks what changed

    names = ("/dev/null" if old is None else f"a/{name}", "/dev/null" if new is None else f"b/{name}")
    for line in difflib.unified_diff(lines, others, *names):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
