"""Declarations as the branch of the bare repository has them: read from its tip, changed by commits on it.

The branch moves only from where it was looked at, so a push that came first is never lost: the change is made again on
top of it, or refused where the same file changed. A push that comes second is told by git to fetch.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from carrel.errors import Conflict
from carrel.vcs.bare import Bare, Commit, Moved
from carrel.vcs.git import Author
from carrel.vcs.judge import read_commit
from carrel.vcs.plain import Change
from carrel.vcs.settings import Hosted, PullSettings
from carrel.vcs.tree import declarations

_TRIES: Final = 8


class Branch:
    """The declarations of ``repository``. ``taken`` is called once a commit is on the branch."""

    def __init__(self, repository: Bare, settings: Hosted, *, taken: Callable[[], Awaitable[object]]) -> None:
        self._repository = repository
        self._settings = settings
        self._taken = taken

    async def read(self, name: str) -> bytes | None:
        """The bytes of a declaration at the tip, None where it is missing."""
        return (await self._files(await self._repository.tip(), (name,)))[name]

    async def write(self, changes: Mapping[str, Change], message: str, author: Author) -> str | None:
        """One commit with all of ``changes``; raises Moved where one of the files is no longer as it was."""
        for attempt in range(_TRIES):
            tip = await self._repository.tip()
            found = await self._files(tip, tuple(changes))
            for name, change in changes.items():
                if found[name] != change.before:
                    raise Moved(f"{name} was changed by a push meanwhile: look at it, and try again.")
            wanted = {self._path(name): change.after for name, change in changes.items()}
            commit = await self._repository.commit_files(tip, wanted, message, author)
            try:
                await self._repository.advance(commit, tip, author)
            except Moved:
                if attempt == _TRIES - 1:
                    raise
                continue
            await self._taken()
            return commit
        return None

    async def commits(self, names: Sequence[str], *, limit: int) -> tuple[Commit, ...]:
        """The newest commits of the branch, of those that changed files of ``names`` where any are named."""
        if await self._repository.tip() is None:
            return ()
        paths = [self._path(name) for name in names]
        return await self._repository.log(self._repository.ref, limit=limit, paths=paths)

    async def commit_of(self, revision: str) -> str:
        """The commit that ``revision`` means; raises NotFound."""
        return await self._repository.commit_of(revision)

    async def uncommitted(self) -> tuple[str, ...]:
        """Nothing: there is no work tree."""
        return ()

    async def files(self, revision: str | None) -> Mapping[str, bytes]:
        """The declarations of a commit, or of the tip; raises Conflict where its tree may not be read."""
        commit = revision or await self._repository.tip()
        return {} if commit is None else await files_of(self._repository, commit, self._settings)

    async def _files(self, tip: str | None, names: tuple[str, ...]) -> dict[str, bytes | None]:
        if tip is None:
            return dict.fromkeys(names)
        entries = declarations(await self._repository.entries(tip, self._settings.limits), self._settings.below)
        asked = {name: entries[name] for name in names if name in entries}
        blobs = await self._repository.blobs(asked)
        return {name: blobs.get(name) for name in names}

    def _path(self, name: str) -> str:
        return f"{self._settings.below}/{name}" if self._settings.below else name


async def files_of(repository: Bare, commit: str, settings: Hosted) -> Mapping[str, bytes]:
    """The declarations in a commit; raises Conflict where its tree may not be read."""
    found = await read_commit(repository, commit, settings)
    if found.shape:
        raise Conflict(f"{commit[:12]} cannot be read: {found.shape[0]}")
    return found.files


class Elsewhere(Branch):
    """What is pulled: read here, and changed only where it comes from."""

    def __init__(self, repository: Bare, settings: PullSettings) -> None:
        super().__init__(repository, settings, taken=asyncio.Event().wait)
        self._url = settings.url

    async def write(self, changes: Mapping[str, Change], message: str, author: Author) -> str | None:
        """Never; raises Conflict."""
        raise pulled(self._url)


def pulled(url: str) -> Conflict:
    """Why nothing that is pulled is changed here, and what to do."""
    return Conflict(f"What is declared here is pulled from {url}: commit the change there, and it is taken.")
