"""The commits of a plain directory of declarations, where it is in a git work tree: read as objects."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from carrel.declare import directory
from carrel.errors import Conflict
from carrel.vcs.bare import Bare, Commit
from carrel.vcs.branch import files_of
from carrel.vcs.git import Git
from carrel.vcs.plain import PlainDirectory
from carrel.vcs.settings import Hosted
from carrel.vcs.tree import Entry, declarations


class WorkTree(PlainDirectory):
    """`PlainDirectory` with its past. Every look at that raises Conflict where the directory is in no work tree."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._seen: tuple[Path, Path] | None = None

    async def commits(self, names: Sequence[str], *, limit: int) -> tuple[Commit, ...]:
        """The newest commits that changed declarations, or those of ``names``."""
        repository, below = await self._found()
        paths = [f"{below}/{name}" if below else name for name in names] or ([below] if below else [])
        return await repository.log("HEAD", limit=limit, paths=paths)

    async def commit_of(self, revision: str) -> str:
        """The commit that ``revision`` means; raises NotFound."""
        return await (await self._found())[0].commit_of(revision)

    async def uncommitted(self) -> tuple[str, ...]:
        """Declarations that are not as the checked out commit has them, by their hashes."""
        repository, below = await self._found()
        limits = Hosted().limits
        entries = await repository.entries(await repository.commit_of("HEAD"), limits)
        return await asyncio.to_thread(self._differing, declarations(entries, below))

    def _differing(self, then: Mapping[str, Entry]) -> tuple[str, ...]:
        now = self._now()
        return tuple(sorted(n for n in {*then, *now} if n not in then or n not in now or not then[n].holds(now[n])))

    async def signature(self) -> object:
        """What changes with what `uncommitted` says, without a look into any file; None where there is no history."""
        git = await Git.find_by_name(self.path)
        if git is None:
            return None
        if self._seen is None or self._seen[0] != git.top:
            self._seen = git.top, await git.directory()
        return await asyncio.to_thread(_signature, self.path, self._seen[1])

    async def files(self, revision: str | None) -> Mapping[str, bytes]:
        """The declarations of a commit, or those in the directory now."""
        if revision is None:
            return await asyncio.to_thread(self._now)
        repository, below = await self._found()
        return await files_of(repository, await repository.commit_of(revision), Hosted(directory=below))

    def _now(self) -> dict[str, bytes]:
        found = {}
        for name in directory.scan(self.path):
            data = self._read(name)
            if data is not None:
                found[name] = data
        return found

    async def _found(self) -> tuple[Bare, str]:
        """The repository, and where in it the directory is."""
        git = await Git.find(self.path)
        if git is None or await git.head() is None:
            raise Conflict(
                f"{self.path} has no history: it is in no git work tree, or nothing is committed there. "
                "`git init` and a commit begin one."
            )
        top = await asyncio.to_thread(git.top.resolve)
        below = (await asyncio.to_thread(self.path.resolve)).relative_to(top)
        return Bare(await git.directory()), "" if below == Path() else str(below)


def _signature(path: Path, git: Path) -> object:
    moved: list[tuple[int, int] | None] = []
    # What is checked out, the moves of that, and what is staged, which every commit writes anew.
    for name in ("HEAD", "logs/HEAD", "index"):
        try:
            stat = (git / name).stat()
            moved.append((stat.st_mtime_ns, stat.st_ino))
        except OSError:
            moved.append(None)
    return moved, directory.scan(path)
