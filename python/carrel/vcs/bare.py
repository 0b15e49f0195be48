"""The bare repository in the state directory: what is in its commits, and new commits made without a work tree.

Everything is read as objects. Nothing is checked out, so that no attribute, filter, link or name of a tree is acted on.
"""

import asyncio
import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel.durability import sync_filesystem
from carrel.errors import Conflict, NotFound
from carrel.processes import ProcessFailed
from carrel.vcs import program
from carrel.vcs.git import Author
from carrel.vcs.program import GitFailed
from carrel.vcs.tree import Entry, Limits, parse_entries

NONE: Final = "0" * 40
BY_COMMAND: Final = "carrel"
"""How the branch is moved by a change that came over the control plane, and so is in the audit log already."""
SHA: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REVISION: Final = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z._/-]{0,200}(?:[~^][0-9]{0,6}){0,8}")
_BYTES_A_NAME: Final = 600
_FIELDS: Final = "%H%x00%an%x00%ae%x00%cn%x00%ct%x00%s"
_SETTINGS: Final = {
    "core.logAllRefUpdates": "always",
    "core.sharedRepository": "0600",
    "gc.auto": "0",
    "gc.reflogExpire": "never",
    "gc.reflogExpireUnreachable": "never",
    "receive.advertisePushOptions": "true",
    "receive.autogc": "false",
    "receive.denyDeletes": "true",
    "receive.denyNonFastForwards": "true",
    "receive.fsckObjects": "true",
    "transfer.fsckObjects": "true",
    "transfer.unpackLimit": "1",
    "transfer.hideRefs": "refs/carrel",
}


class Moved(Conflict):
    """The branch is no longer where it was when a change was begun: somebody else was first. Nothing is lost."""

    code = "branch_moved"


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit as a list shows it. ``at`` is in seconds since 1970."""

    sha: str
    author: str
    email: str
    committer: str
    at: int
    subject: str


@dataclass(frozen=True, slots=True)
class Push:
    """One move of the branch, as git's own log of it tells: from where, to where, by whom, and how."""

    old: str
    new: str
    by: str
    how: str


class Bare:
    """The repository at ``path``, of which one ``branch`` counts."""

    def __init__(self, path: Path, *, branch: str = "main") -> None:
        self.path = path
        self.branch = branch
        self.ref = f"refs/heads/{branch}"

    async def init(self, *, receives: int) -> None:
        """Make it where it is missing, and set what a push is held to; one may bring ``receives`` bytes."""
        if not (self.path / "HEAD").exists():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            template = self.path.parent / "template"
            template.mkdir(mode=0o700, exist_ok=True)
            words = ("init", "--quiet", "--bare", f"--template={template}", f"--initial-branch={self.branch}")
            await self._output(*words, str(self.path))
            template.rmdir()
        settings = _SETTINGS | {
            "receive.maxInputSize": str(receives),
            "core.hooksPath": str(self.path.parent / "hooks"),
        }
        for name, value in settings.items():
            await self._output("config", name, value)
        await self._output("symbolic-ref", "HEAD", self.ref)

    # --- looking ---

    async def tip(self) -> str | None:
        """The commit that the branch is at, None before the first one."""
        answer = await program.run(self.path, "rev-parse", "--verify", "--quiet", f"{self.ref}^{{commit}}")
        sha = answer.stdout.decode("ascii", "replace").strip()
        return sha if answer.returncode == 0 and SHA.fullmatch(sha) else None

    async def commit_of(self, revision: str) -> str:
        """The whole name of a commit that ``revision`` means; raises NotFound."""
        if _REVISION.fullmatch(revision):
            answer = await program.run(
                self.path, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
            )
            sha = answer.stdout.decode("ascii", "replace").strip()
            if answer.returncode == 0 and SHA.fullmatch(sha):
                return sha
        raise NotFound(f"There is no commit {revision[:80]!r}: `carrel history` lists those that there are.")

    async def has(self, sha: str) -> bool:
        """Whether the object is here."""
        return (await program.run(self.path, "cat-file", "-e", sha)).returncode == 0

    async def kind(self, sha: str) -> str:
        """What kind of object it is."""
        return (await self._output("cat-file", "-t", sha)).decode().strip()

    async def is_ancestor(self, old: str, new: str) -> bool:
        """Whether ``new`` holds ``old`` and all that led to it."""
        answer = await program.run(self.path, "merge-base", "--is-ancestor", old, new)
        if answer.returncode not in (0, 1):
            raise program.failure("merge-base", answer)
        return answer.returncode == 0

    async def entries(self, commit: str, limits: Limits) -> tuple[Entry, ...]:
        """All files of a commit's tree; raises TooLarge where there are more than anything may hold."""
        words = ("ls-tree", "-r", "-z", "-l", "--full-tree", commit)
        data = await program.capped(self.path, *words, limit=limits.files * _BYTES_A_NAME)
        return await asyncio.to_thread(parse_entries, data)

    async def blobs(self, entries: Mapping[str, Entry]) -> dict[str, bytes]:
        """The bytes of ``entries`` by their names. Look at their sizes first."""
        if not entries:
            return {}
        asked = "".join(f"{entry.sha}\n" for entry in entries.values()).encode()
        return await asyncio.to_thread(_split, await self._output("cat-file", "--batch", stdin=asked), entries)

    async def log(self, revision: str, *, limit: int, paths: Sequence[str] = ()) -> tuple[Commit, ...]:
        """The newest commits of ``revision``, of those that changed ``paths`` where they are named."""
        words = ("log", f"--max-count={limit}", "-z", f"--format={_FIELDS}", revision, "--", *paths)
        return parse_log(await self._output(*words))

    async def pushes(self) -> tuple[Push, ...]:
        """Every move of the branch, newest first: git writes it down as it moves the branch."""
        answer = await program.run(self.path, "reflog", "show", "-z", "--format=%H%x00%gn%x00%gs", self.ref)
        if answer.returncode:
            return ()
        words = answer.stdout.decode("utf-8", "replace").split("\0")
        moves = list(zip(words[::3], words[1::3], words[2::3], strict=False))
        olds = [sha for sha, _, _ in moves[1:]] + [NONE]
        return tuple(Push(old, new, by, how) for (new, by, how), old in zip(moves, olds, strict=True))

    # --- changing ---

    async def commit_files(
        self, parent: str | None, changes: Mapping[str, bytes | None], message: str, author: Author
    ) -> str:
        """A commit on ``parent`` with each path at its bytes, or taken out by None; no branch is moved yet."""
        with tempfile.TemporaryDirectory(prefix=".index-", dir=self.path.parent) as place:
            env = {"GIT_INDEX_FILE": os.path.join(place, "index"), **self._identity(author)}
            if parent is not None:
                await self._output("read-tree", parent, env=env)
            lines = []
            for path, data in changes.items():
                if data is None:
                    lines.append(f"0 {NONE}\t{path}")
                else:
                    sha = (await self._output("hash-object", "-w", "--stdin", stdin=data)).decode().strip()
                    lines.append(f"100644 {sha}\t{path}")
            await self._output("update-index", "-z", "--index-info", stdin="\0".join([*lines, ""]).encode(), env=env)
            tree = (await self._output("write-tree", env=env)).decode().strip()
            on = ("-p", parent) if parent is not None else ()
            return (await self._output("commit-tree", tree, *on, stdin=message.encode(), env=env)).decode().strip()

    async def advance(self, new: str, old: str | None, by: Author, *, how: str = BY_COMMAND) -> None:
        """Move the branch to ``new`` where it is still at ``old``; raises Moved. ``how`` is kept with it."""
        words = ("update-ref", "--create-reflog", "-m", how, self.ref, new, old or NONE)
        answer = await program.run(self.path, *words, env=self._identity(by, committer=by))
        if answer.returncode:
            if await self.tip() != old:
                raise Moved(f"{self.branch} has moved meanwhile: somebody pushed. Try again on what is there now.")
            raise program.failure("update-ref", answer)
        await self.keep()

    async def keep(self) -> None:
        """Have the branch with all that it is made of outlive the machine: git syncs no names. Raises GitFailed."""
        try:
            await asyncio.to_thread(sync_filesystem, self.path)
        except OSError as error:
            raise GitFailed(f"{self.path} could not be synced to the disk: {error.strerror}.") from error

    async def tidy(self) -> None:
        """Pack what lies loose, where it is much. Nothing that is named is lost."""
        with contextlib.suppress(ProcessFailed):
            await program.run(self.path, "gc", "--auto", "--quiet", settings=("gc.auto=2000", "gc.autoDetach=false"))

    @staticmethod
    def _identity(author: Author, committer: Author | None = None) -> dict[str, str]:
        who = committer or Author("carrel", f"carrel@{socket.gethostname()}")
        return {
            "GIT_AUTHOR_NAME": author.name,
            "GIT_AUTHOR_EMAIL": author.email,
            "GIT_COMMITTER_NAME": who.name,
            "GIT_COMMITTER_EMAIL": who.email,
        }

    async def _output(self, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        return await program.output(self.path, *words, stdin=stdin, env=env)


def _split(data: bytes, entries: Mapping[str, Entry]) -> dict[str, bytes]:
    """The files in what `git cat-file --batch` printed of ``entries``; raises GitFailed."""
    found: dict[str, bytes] = {}
    at = 0
    for name, entry in entries.items():
        end = data.index(b"\n", at)
        sha, kind, size = data[at:end].decode().split(" ")
        if sha != entry.sha or kind != "blob":
            raise GitFailed(f"{name} is not the file that its tree says it is.")
        at = end + 1 + int(size) + 1
        found[name] = data[end + 1 : at - 1]
    return found


def parse_log(data: bytes) -> tuple[Commit, ...]:
    """What `git log -z` printed in the fields of `Commit`."""
    return tuple(_commits(data.decode("utf-8", "replace").rstrip("\0").split("\0")))


def _commits(words: list[str]) -> Iterable[Commit]:
    for at in range(0, len(words) - 5, 6):
        sha, author, email, committer, seconds, subject = words[at : at + 6]
        yield Commit(sha, author, email, committer, int(seconds), subject)
