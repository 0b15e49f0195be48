"""A commit judged as a whole: its tree's shape, then every declaration in it, by the validator that all else uses."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from carrel.declare.directory import GATEWAY
from carrel.declare.load import ParseCache, Tree, load_files
from carrel.declare.problems import Problem
from carrel.errors import TooLarge
from carrel.vcs.bare import Bare
from carrel.vcs.settings import Hosted
from carrel.vcs.tree import Entry, declarations, judge_entries


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is in a commit. ``shape`` is what may be in no tree; with it nothing was read and ``tree`` is None."""

    files: Mapping[str, bytes]
    tree: Tree | None
    shape: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All of them, warnings too, with files named as `carrel check` names them."""
        return self.shape or (self.tree.problems if self.tree is not None else ())

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Those that are no warnings."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


@dataclass(frozen=True, slots=True)
class Update:
    """What a push asks of one ref."""

    old: str
    new: str
    ref: str


async def read_commit(repository: Bare, commit: str, settings: Hosted) -> Verdict:
    """The declarations in a commit, not judged yet (``tree`` is None); ``shape`` where they may not be read at all."""
    found, wrong = await list_commit(repository, commit, settings)
    return Verdict({}, None, wrong) if wrong else Verdict(await repository.blobs(found), None)


async def list_commit(
    repository: Bare, commit: str, settings: Hosted
) -> tuple[Mapping[str, Entry], tuple[Problem, ...]]:
    """The declarations in a commit by name, not read yet, or why its tree may not be read at all."""
    limits = settings.limits
    try:
        entries = await repository.entries(commit, limits)
    except TooLarge:
        return {}, (Problem(".", 1, 1, "", f"over {limits.files} files may not be in the repository"),)
    wrong = await asyncio.to_thread(judge_entries, entries, limits)
    if wrong:
        return {}, wrong
    found = await asyncio.to_thread(declarations, entries, settings.below)
    if GATEWAY not in found:
        where = sorted(e.path.removesuffix(GATEWAY).rstrip("/") for e in entries if e.path.endswith(f"/{GATEWAY}"))
        mend = f": it is in {where[0]}, so set `directory: {where[0]}` in the git settings" if where else ""
        name = f"{settings.below}/{GATEWAY}" if settings.below else GATEWAY
        text = f"the file is missing: it names the providers and models{mend}"
        return {}, (Problem(name, 1, 1, "", text),)
    return found, ()


async def judge_commit(repository: Bare, commit: str, settings: Hosted, cache: ParseCache | None = None) -> Verdict:
    """A commit with each problem in its place. ``cache`` spares reading what was read before; it changes no verdict."""
    read = await read_commit(repository, commit, settings)
    if read.shape:
        return read
    return Verdict(read.files, await asyncio.to_thread(load_files, read.files, cache=cache))


async def judge_push(
    repository: Bare, updates: Sequence[Update], settings: Hosted, cache: ParseCache | None = None
) -> tuple[tuple[str, ...], Verdict | None]:
    """Why a push is refused as a whole, or the verdict on the commit that the branch would be at."""
    why = await refusals(repository, updates)
    if why or not updates:
        return why, None
    return (), await judge_commit(repository, updates[-1].new, settings, cache)


async def refusals(repository: Bare, updates: Sequence[Update]) -> tuple[str, ...]:
    """Why what a push asks of refs is refused, whatever is in it; nothing where it may be."""
    return tuple([text for update in updates if (text := await _refusal(repository, update)) is not None])


async def _refusal(repository: Bare, update: Update) -> str | None:
    if update.ref != repository.ref:
        kind = "tags are" if update.ref.startswith("refs/tags/") else f"{update.ref.removeprefix('refs/heads/')} is"
        return f"{kind} not taken here: push to {repository.branch} (git push carrel HEAD:{repository.branch})"
    if set(update.new) == {"0"}:
        return f"{repository.branch} cannot be deleted"
    if set(update.old) != {"0"} and not await repository.is_ancestor(update.old, update.new):
        return (
            f"{repository.branch} would lose commits that it has: fetch, put yours on top (git pull --rebase), and "
            "push without force. `carrel rollback` goes back to an older state by a new commit."
        )
    if await repository.kind(update.new) != "commit":
        return f"{repository.branch} can be at a commit only"
    return None
