"""Files that look as if someone is in the middle of writing them.

A file that is gone may be an editor between its two renames; one that is empty, or the beginning of what it was, may be
a write that has only begun. Taken at once they would suspend a tenant or lift its limits for a moment. So they count
only when they are found the same a second time. Blocks: for the reconciler's thread, like the loader.
"""

import math
from collections.abc import Iterable
from typing import Final

from carrel.clock import Clock
from carrel.declare.directory import Signature
from carrel.declare.load import Loader

QUIET_SECONDS: Final = 0.2


class Halfway:
    """What is being looked at twice, by file, with when it was first seen so."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[Signature | None, float]] = {}

    def wait(self) -> float:
        """Seconds until a file can be judged, infinity where none waits."""
        if not self._seen:
            return math.inf
        first = min(since for _, since in self._seen.values())
        return max(0.0, first + QUIET_SECONDS - self._clock.monotonic())

    def due(self) -> bool:
        """Whether a file can be judged now."""
        return bool(self._seen) and self.wait() == 0.0

    def take_due(self) -> set[str]:
        """The files that have waited long enough to be looked at again."""
        now = self._clock.monotonic()
        return {name for name, (_, since) in self._seen.items() if since + QUIET_SECONDS <= now}

    def clear(self) -> None:
        """Forget all: someone says that nothing is being written now."""
        self._seen.clear()

    def settled(self, names: Iterable[str], loader: Loader) -> set[str]:
        """Those of ``names`` that count now; the others are kept and come up in `take_due`."""
        return {name for name in names if self._counts(name, loader)}

    def _counts(self, name: str, loader: Loader) -> bool:
        known = loader.known(name)
        found = loader.peek(name)
        signature, data = found if found is not None else (None, b"")
        if signature is None and known is None:
            suspicious = False
        elif signature is None:
            suspicious = not loader.refused(name)
        else:
            old = known.data if known is not None else b""
            suspicious = (not data.strip() and bool(old.strip() or known is None)) or (
                len(data) < len(old) and old.startswith(data)
            )
        now = self._clock.monotonic()
        seen = self._seen.get(name)
        if not suspicious or (seen is not None and seen[0] == signature and seen[1] + QUIET_SECONDS <= now):
            self._seen.pop(name, None)
            return True
        if seen is None or seen[0] != signature:
            self._seen[name] = (signature, now)
        return False
