"""How far a backup or a restore is, and when it may be done."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from carrel.clock import remaining

Phase = Literal["waiting", "counting", "copying", "sending", "reading", "swapping", "done"]


@dataclass(slots=True)
class Progress:
    """Written by one thread and read by others.

    ``total`` and ``done`` are bytes of content, ``flying`` those of them that wait to be sent, ``moved`` bytes sent or
    fetched.
    """

    phase: Phase = "waiting"
    total: int = 0
    done: int = 0
    moved: int = 0
    files: int = 0
    flying: int = 0
    now: Callable[[], float] = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.now()

    def begin(self, phase: Phase, total: int) -> None:
        """Go on to another phase, of ``total`` bytes; what is left of the time is told by that one alone."""
        self.phase, self.total, self.done = phase, total, 0
        self.began = self.now()

    @property
    def settled(self) -> int:
        """Bytes of content that nothing more is to be done for: what waits to be sent is not among them."""
        return max(self.done - self.flying, 0)

    @property
    def eta(self) -> float | None:
        """Seconds until it is done at the pace so far; None where nothing can be said yet."""
        return remaining(self.settled, self.total, self.now() - self.began)
