"""Follows a branch elsewhere: looks at it every so often and when nudged, and takes what is ahead and signed.

The last commit that was taken is marked outside of the repository. Only what holds that commit is taken after it, so
that neither a force-push nor an older state that is shown again goes back behind it.
"""

import asyncio
import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Protocol

import structlog

from carrel.clock import Clock
from carrel.errors import CarrelError
from carrel.gitops.follow import Follower
from carrel.vcs.bare import SHA, Bare
from carrel.vcs.git import Author
from carrel.vcs.judge import read_commit
from carrel.vcs.settings import PullSettings
from carrel.wire.revisions import PullAnswer

MAX_WAIT: Final = 3600.0
NUDGE_SECONDS: Final = 1.0
PULLED: Final = "pull"
State = Literal["Waiting", "Ready", "Unreachable", "Unsigned", "Diverged", "Older", "Malformed", "Failed"]
_log = structlog.get_logger(__name__)


class Remote(Protocol):
    """See `vcs.remote.Remote`."""

    async def fetch(self) -> str: ...
    async def unsigned(self, old: str | None, new: str) -> tuple[str, ...]: ...


class Mark:
    """The last commit that was taken, in a file of its own. It blocks: run it in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str | None:
        """The commit; raises CarrelError where the file is damaged, for then nothing older can be told from newer."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))["commit"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            found = ""
        if not isinstance(found, str) or not SHA.fullmatch(found):
            raise CarrelError(
                f"{self._path} is damaged: it names the last commit that was taken. Restore or remove it."
            )
        return found

    def write(self, commit: str) -> None:
        """Keep it, through a power cut too."""
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump({"commit": commit}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class Puller:
    """One for a gateway in pull mode: ``look`` once before the start, then run ``watch`` as a task."""

    def __init__(
        self, *, remote: Remote, repository: Bare, settings: PullSettings, mark: Mark, follower: Follower, clock: Clock
    ) -> None:
        self._remote = remote
        self._repository = repository
        self._settings = settings
        self._mark = mark
        self._follower = follower
        self._clock = clock
        self._lock = asyncio.Lock()
        self._nudged = asyncio.Event()
        self._refused: tuple[str, State, str] | None = None
        self._failures = 0
        self.state: State = "Waiting"
        self.message = "not looked at yet"

    # --- when ---

    async def watch(self) -> None:
        """Look for good; cancel it to stop."""
        while True:
            try:
                async with asyncio.timeout(self.wait()):
                    await self._nudged.wait()
            except TimeoutError:
                pass
            self._nudged.clear()
            await self.look()
            await self._clock.sleep(NUDGE_SECONDS)

    def nudge(self) -> None:
        """Look soon. Many nudges are one look."""
        self._nudged.set()

    def wait(self) -> float:
        """Seconds to the next look: longer after each failure, and never the same for two gateways."""
        grown = self._settings.interval_seconds * 2.0 ** min(self._failures, 12)
        seconds = max(min(grown, MAX_WAIT), min(self._settings.interval_seconds, MAX_WAIT))
        return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, keeps nothing secret

    # --- what ---

    async def look(self, *, accept: str | None = None, take: bool = True) -> PullAnswer:
        """Fetch, judge and take what is there now; how that ended. Never raises for what is wrong with the remote.

        ``accept`` names the one commit that is taken though it does not hold the marked one. Without ``take`` it is
        only put on the branch: before the start nobody can bring it into force yet.
        """
        async with self._lock:
            try:
                self.state, self.message = await self._look(accept)
                if take:
                    await self._follower.take()
            except CarrelError as error:
                self.state = "Unreachable" if error.retryable else "Failed"
                self.message = error.message
            self._failures = self._failures + 1 if self.state in ("Unreachable", "Failed") else 0
            if self.state != "Ready":
                _log.warning("nothing is pulled", state=self.state, reason=self.message)
            self._follower.note(**self.report())
            return PullAnswer(state=self.state, revision=self._follower.revision, message=self.message)

    def report(self) -> Mapping[str, object]:
        """As `/v1/status` tells it."""
        return {"url": self._settings.url, "pull": self.state, "message": self.message}

    async def _look(self, accept: str | None) -> tuple[State, str]:
        fetched = await self._remote.fetch()
        mark = await asyncio.to_thread(self._mark.read)
        if fetched == mark:
            await self._put(fetched)
            return "Ready", f"{fetched[:12]} is the newest"
        if self._refused is not None and self._refused[0] == fetched and accept != fetched:
            # What was refused is not judged again and again: it changes when the branch does.
            return self._refused[1:]
        found = await self._judge(fetched, mark, accept)
        if found is not None:
            self._refused = fetched, *found
            return found
        self._refused = None
        await asyncio.to_thread(self._mark.write, fetched)
        await self._put(fetched)
        return "Ready", f"{fetched[:12]} was taken"

    async def _judge(self, fetched: str, mark: str | None, accept: str | None) -> tuple[State, str] | None:
        """Why ``fetched`` is not taken, None where it is."""
        base = mark or self._settings.signed_since
        ahead = base is None or base == fetched or await self._holds(fetched, base)
        if not ahead and accept != fetched:
            older = base is not None and await self._holds(base, fetched)
            accepts = f"To take it all the same: carrel git pull --accept {fetched}"
            if older:
                return "Older", f"{fetched[:12]} is older than {str(base)[:12]}, which was taken before. {accepts}"
            return "Diverged", (
                f"{fetched[:12]} does not hold {str(base)[:12]}, which was taken before: the branch was rewritten by a "
                f"force-push. {accepts}"
            )
        wrong = await self._remote.unsigned(await self._trusted(mark), fetched)
        if wrong:
            more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            return "Unsigned", f"{'; '.join(wrong[:5])}{more}. Nothing of {fetched[:12]} is taken."
        shape = (await read_commit(self._repository, fetched, self._settings)).shape
        if shape:
            return "Malformed", "; ".join(str(problem) for problem in shape[:5])
        return None

    async def _trusted(self, mark: str | None) -> str | None:
        """The commit after which all must be signed; None, for all, also where a repository that is new has it not."""
        for commit in (mark, self._settings.signed_since):
            if commit is not None and await self._repository.has(commit):
                return commit
        return None

    async def _holds(self, new: str, old: str) -> bool:
        """Whether ``new`` holds ``old``; an ``old`` that is not here at all is held by nothing."""
        try:
            return await self._repository.is_ancestor(old, new)
        except CarrelError:
            return False

    async def _put(self, commit: str) -> None:
        """Let the branch here be at ``commit``."""
        tip = await self._repository.tip()
        if tip != commit:
            await self._repository.advance(commit, tip, Author("git:pull", "git:pull"), how=PULLED)
