"""The git program, for the one work tree that tenants.d may be in: who changed what is declared, and when.

Nothing of the repository is run: no hooks, no file system monitor, no filters of a submodule, no external transport.
A commit takes the named paths alone; whatever else is staged or changed stays as it was.
"""

import asyncio
import contextlib
import os
import pwd
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel import processes
from carrel.durability import sync_filesystem
from carrel.vcs.program import GitFailed, failure

__all__ = ["Author", "Git", "GitFailed"]

_SECONDS: Final = 30.0
_FREE_SECONDS: Final = 3.0
_FREE_TRIES: Final = 60
"""How long, and how often in that time, is looked whether another git is done."""
_HARDENED: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.editor=false",
    "protocol.ext.allow=never",
    "protocol.file.allow=never",
    "submodule.recurse=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
)
_KEPT: Final = ("HOME", "PATH", "TZ", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL")
_SHA: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Author:
    """Who a commit is by."""

    name: str
    email: str

    def __str__(self) -> str:
        return f"{_plain(self.name)} <{_plain(self.email)}>"

    @classmethod
    def of(cls, actor: str) -> "Author":
        """Who the audit log calls ``actor``; a uid has the name of its user besides."""
        user = actor.replace(":", "-")
        if actor.startswith("uid:") and actor[4:].isdecimal():
            with contextlib.suppress(KeyError, OverflowError):
                user = pwd.getpwuid(int(actor[4:])).pw_name
        return cls(actor if user in (actor, actor.replace(":", "-")) else f"{user} ({actor})", f"{user}@{_host()}")


class Git:
    """The work tree whose top is ``top``. `find` gives the one that a directory is in."""

    def __init__(self, top: Path) -> None:
        self.top = top

    @classmethod
    async def find(cls, path: Path) -> "Git | None":
        """The work tree that the directory ``path`` is in; None where it is in none, or where there is no git."""
        top = await asyncio.to_thread(_top, path)
        if top is None:
            return None
        git = cls(top)
        try:
            answer = await git._run("rev-parse", "--is-inside-work-tree")
        except processes.ProcessFailed:
            return None
        return git if answer.returncode == 0 and answer.stdout.strip() == b"true" else None

    @classmethod
    async def find_by_name(cls, path: Path) -> "Git | None":
        """The same, without asking git whether it is one."""
        top = await asyncio.to_thread(_top, path)
        return cls(top) if top is not None else None

    async def directory(self) -> Path:
        """Where git keeps what it knows of the work tree; raises GitFailed."""
        answer = await self._run("rev-parse", "--absolute-git-dir")
        if answer.returncode:
            raise failure("rev-parse", answer)
        return Path(answer.stdout.decode("utf-8", "surrogateescape").rstrip("\n"))

    async def wait_until_free(self) -> None:
        """Wait for another git to be done with the index, for a while; raises GitFailed where it is not."""
        lock = await self.directory() / "index.lock"
        for _ in range(_FREE_TRIES):
            if not await asyncio.to_thread(os.path.lexists, lock):
                return
            await asyncio.sleep(_FREE_SECONDS / _FREE_TRIES)
        raise GitFailed(
            "Another git works where tenants.d is, or was killed there: nothing was changed. Try again once it is "
            f"done; where none runs, remove {lock}."
        )

    async def head(self) -> str | None:
        """The commit that is checked out, None before the first one."""
        answer = await self._run("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        sha = answer.stdout.decode("ascii", "replace").strip()
        return sha if answer.returncode == 0 and _SHA.fullmatch(sha) else None

    async def commit(self, paths: Sequence[Path], message: str, author: Author | None = None) -> str | None:
        """Commit ``paths`` as they are now, removed ones too; the new commit, or None where nothing changed.

        ``author`` goes over git's own configuration; where neither names one it is ``carrel <carrel@HOST>``.
        Raises GitFailed.
        """
        names = [self._beneath(path) for path in paths]
        if not names:
            return None
        if not await self._stage(names):
            return None
        before = await self.head()
        options = [] if author is None else [f"--author={author}"]
        command = ["commit", "--quiet", "--no-verify", "--cleanup=verbatim", "--file=-", *options, "--only", "--"]
        answer = await self._run(*command, *names, stdin=message.encode(), identity=await self._identity(author))
        if answer.returncode:
            await self._run("reset", "--quiet", "--", *names)
            if not await self._was_made(before, names):
                raise failure("commit", answer)
        await asyncio.to_thread(self._sync)
        return await self.head()

    async def _was_made(self, before: str | None, names: list[str]) -> bool:
        """Whether there is a commit of ``names`` as they are, behind ``before``, although git failed.

        Its last step is the index's, which a disk may refuse once the commit is there.
        """
        now = await self.head()
        if now is None or now == before:
            return False
        return (await self._run("diff", "--quiet", now, "--", *names)).returncode == 0

    def _sync(self) -> None:
        """A commit counts once it lasts: git itself syncs no name, whatever it is told."""
        try:
            sync_filesystem(self.top)
        except OSError as error:
            raise GitFailed(f"The commit was made, but the disk does not keep it: {error.strerror}.") from error

    async def _stage(self, names: list[str]) -> bool:
        """Make git know of new files among ``names``; whether any of them differs from the last commit."""
        known = [name for name in names if (self.top / name).is_file() or await self._is_tracked(name)]
        if not known:
            return False
        added = await self._run("add", "--all", "--", *known)
        if added.returncode:
            raise failure("add", added)
        answer = await self._run("status", "--porcelain", "-z", "--untracked-files=no", "--", *known)
        if answer.returncode:
            raise failure("status", answer)
        return bool(answer.stdout)

    async def _is_tracked(self, name: str) -> bool:
        answer = await self._run("ls-files", "--error-unmatch", "--", name)
        return answer.returncode == 0

    async def _identity(self, author: Author | None) -> dict[str, str]:
        """What git lacks to name a committer: its configuration is kept where it names one."""
        answer = await self._run("var", "GIT_COMMITTER_IDENT")
        configured = await self._run("config", "--get", "user.email")
        if answer.returncode == 0 and configured.returncode == 0 and configured.stdout.strip():
            return {}
        default = author or Author("carrel", f"carrel@{_host()}")
        return {
            "GIT_AUTHOR_NAME": default.name,
            "GIT_AUTHOR_EMAIL": default.email,
            "GIT_COMMITTER_NAME": "carrel",
            "GIT_COMMITTER_EMAIL": f"carrel@{_host()}",
        }

    def _beneath(self, path: Path) -> str:
        """``path`` relative to the top; the last part is not followed. Raises GitFailed where it is elsewhere."""
        whole = path if path.is_absolute() else self.top / path
        resolved = whole.parent.resolve() / whole.name
        try:
            return str(resolved.relative_to(self.top.resolve()))
        except ValueError:
            raise GitFailed(f"{path} is not in the git work tree.") from None

    async def _run(
        self, *words: str, stdin: bytes = b"", identity: dict[str, str] | None = None
    ) -> processes.Completed:
        settings = [word for setting in (f"safe.directory={self.top}", *_HARDENED) for word in ("-c", setting)]
        env = {name: os.environ[name] for name in _KEPT if name in os.environ} | {
            "LC_ALL": "C.UTF-8",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_ASKPASS": "false",
            "GIT_ATTR_NOSYSTEM": "1",
        }
        env.setdefault("PATH", os.defpath)
        env["HOME"] = _home(env.get("HOME"))
        return await processes.run(
            ["git", "--no-pager", *settings, *words],
            env=env | (identity or {}),
            timeout=_SECONDS,
            stdin=stdin,
            cwd=str(self.top),
        )


def _top(path: Path) -> Path | None:
    """Where the work tree begins, by name: git itself refuses to say that of another owner's."""
    path = path.resolve()
    return next((d for d in (path, *path.parents) if os.path.lexists(d / ".git")), None)


def _home(declared: str | None) -> str:
    """A home whose configuration can be read: after privileges were dropped, the old one makes git fail."""
    try:
        own = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        own = "/nonexistent"
    return next((home for home in (declared, own) if home and os.access(home, os.R_OK | os.X_OK)), "/nonexistent")


def _host() -> str:
    return socket.gethostname()


def _plain(text: str) -> str:
    """``text`` with what would end a name or an address in a commit left out."""
    return "".join(c for c in text if c.isprintable() and c not in "<>") or "carrel"
