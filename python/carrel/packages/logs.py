"""What building environments printed: the last builds of each set, kept beside the environments. All of it blocks.

A log has an end, holds nothing that acts on a terminal, and says nothing of where the gateway keeps its things: tenants
read it too.
"""

import contextlib
import hashlib
import re
from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from carrel.telemetry import escape_text

BUILDS: Final = 5
"""How many builds of one set are kept."""
FILES: Final = 200
"""How many are kept of all sets together."""
HEAD_LINES: Final = 100
TAIL_LINES: Final = 400
LINE: Final = 500
_FILE: Final = re.compile(r"([0-9a-f]{20})-[0-9]{8}T[0-9]{12}\.log")


class BuildLog:
    """What one build prints: its beginning and its end."""

    def __init__(self, hidden: str = "") -> None:
        self._hidden = hidden
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._left_out = 0
        self.lines = 0
        """How many it was told."""

    def say(self, line: str) -> None:
        """Take one line."""
        self.lines += 1
        text = escape_text(line)
        if self._hidden:
            text = text.replace(self._hidden, "STATE")
        if len(text) > LINE:
            text = f"{text[:LINE]}…"
        if len(self._head) < HEAD_LINES:
            self._head.append(text)
            return
        self._left_out += len(self._tail) == TAIL_LINES
        self._tail.append(text)

    def text(self) -> str:
        """All that is kept of it."""
        gap = [f"… {self._left_out} lines …"] if self._left_out else []
        return "\n".join([*self._head, *gap, *self._tail])


class BuildLogs:
    """The logs in ``directory``. ``hidden`` is the text that no log may tell: where the state is."""

    def __init__(self, directory: Path, *, hidden: str) -> None:
        self._directory = directory
        self._hidden = hidden

    def write(self, packages: Iterable[str], log: BuildLog, *, at: datetime) -> None:
        """Write down what a build that goes on has printed so far; `keep` puts the whole in its place."""
        self._put(sorted(packages), log, at, "the gateway ended before it was over")

    def begin(self) -> BuildLog:
        """The log of a build that begins."""
        return BuildLog(self._hidden)

    def keep(self, packages: Iterable[str], log: BuildLog, *, at: datetime, ended: str) -> None:
        """Keep the log of a build of ``packages``; ``ended`` says how it came out. Older ones go.

        Where the disk is full it is not kept.
        """
        names = sorted(packages)
        with contextlib.suppress(OSError):
            self._put(names, log, at, ended)
            self._prune(_key(names))

    def _put(self, names: Sequence[str], log: BuildLog, at: datetime, ended: str) -> None:
        head = BuildLog(self._hidden)
        head.say(f"== {at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ} {' '.join(names) or 'the base set'}: {ended}")
        with contextlib.suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = self._directory / f"{_key(names)}-{at.astimezone(UTC):%Y%m%dT%H%M%S%f}.log"
            half = file.with_suffix(".half")
            half.write_text("\n".join(part for part in (head.text(), log.text()) if part) + "\n", encoding="utf-8")
            half.chmod(0o600)
            half.replace(file)

    def text(self, packages: Iterable[str]) -> str:
        """What is kept of the builds of ``packages``, the oldest first."""
        told = []
        for file in self._files(_key(sorted(packages))):
            with contextlib.suppress(OSError):
                told.append(file.read_text(encoding="utf-8", errors="replace"))
        return "\n".join(told)

    def _files(self, key: str | None = None) -> list[Path]:
        """By age, the oldest first."""
        try:
            found = [(_FILE.fullmatch(file.name), file) for file in self._directory.iterdir()]
        except FileNotFoundError:
            return []
        ours = [file for match, file in found if match is not None and key in (None, match[1])]
        return sorted(ours, key=lambda file: file.name.partition("-")[2])

    def _prune(self, key: str) -> None:
        for file in (*self._files(key)[:-BUILDS], *self._files()[:-FILES]):
            file.unlink(missing_ok=True)


def _key(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:20]
