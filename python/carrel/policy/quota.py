"""Whether one more request, or one more reservation, fits a quota, and when to come back where it does not.

Days and months are fixed windows in UTC. Minutes and hours slide, counted in sixty slots: the oldest slot counts whole
until it has passed whole, so that no window of that length ever holds more than the limit. Seconds are a token bucket.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import floor
from typing import Final

from carrel.errors import QuotaExceeded
from carrel.policy.periods import ONE_DAY, midnight, next_month
from carrel.policy.pricing import plain

SLOTS: Final = 60
HELD_SECONDS: Final = 2.0
"""When to come back where only what calls in flight hold is in the way: they end within seconds, most of them."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not: the quota's name, the seconds to wait, when its window opens again, and a sentence."""

    quota: str
    retry_after: float
    reset_at: datetime
    message: str

    def error(self) -> QuotaExceeded:
        """The refusal as an error."""
        return QuotaExceeded(self.message, quota=self.quota, retry_after=self.retry_after, reset_at=self.reset_at)


@dataclass(frozen=True, slots=True)
class Decision:
    """``refusal`` where a hard limit would be passed; ``passed_soft`` where a soft one is."""

    refusal: Refusal | None = None
    passed_soft: bool = False


_FITS: Final = Decision()
_PASSES_SOFT: Final = Decision(passed_soft=True)


@dataclass(slots=True)
class SlidingWindow:
    """How many in the last ``seconds``, by a clock that never goes back. Memory is sixty slots whatever the limit."""

    seconds: float
    _slots: deque[tuple[int, int]] = field(default_factory=deque)
    _total: int = 0

    @property
    def newest(self) -> tuple[int, int] | None:
        """The slot that was counted in last, and what it holds."""
        return self._slots[-1] if self._slots else None

    def restore(self, slots: Sequence[tuple[int, int]]) -> None:
        """Go on from ``slots``, oldest first."""
        self._slots = deque(slots)
        self._total = sum(count for _, count in slots)

    def count(self, now: float) -> int:
        """How many are in the window that ends at ``now``."""
        slots = self._slots
        if slots:
            oldest = floor(now * SLOTS / self.seconds) - SLOTS
            while slots and slots[0][0] < oldest:
                self._total -= slots.popleft()[1]
        return self._total

    def add(self, now: float) -> None:
        """Count one at ``now``."""
        slot = floor(now * SLOTS / self.seconds)
        slots = self._slots
        if slots and slots[-1][0] >= slot:
            last, count = slots[-1]
            slots[-1] = (last, count + 1)
        else:
            slots.append((slot, 1))
        self._total += 1

    def wait(self, now: float, limit: int) -> float:
        """Seconds until one more fits under ``limit``."""
        excess = self.count(now) + 1 - limit
        width = self.seconds / SLOTS
        for slot, count in self._slots:
            excess -= count
            if excess <= 0:
                return max((slot + SLOTS + 1) * width - now, 0.0)
        return self.seconds


@dataclass(slots=True)
class TokenBucket:
    """So many a second on the long run, and as many at once; an empty one fills at the limit's pace."""

    _level: float = -1.0
    _at: float = 0.0

    @property
    def state(self) -> tuple[float, float]:
        """Its level and when it had that; a level below 0 is that of one that nothing was taken from yet."""
        return self._level, self._at

    def restore(self, level: float, at: float) -> None:
        """Go on from a `state`."""
        self._level, self._at = level, at

    def wait(self, now: float, limit: int) -> float:
        """Seconds until there is one to take; 0 where there is."""
        self._fill(now, limit)
        return 0.0 if self._level >= 1.0 else (1.0 - self._level) / limit

    def take(self, now: float, limit: int) -> None:
        """Take one, or what is there."""
        self._fill(now, limit)
        self._level = max(self._level - 1.0, 0.0)

    def _fill(self, now: float, limit: int) -> None:
        if self._level < 0.0:
            self._level = float(limit)
        else:
            self._level = min(self._level + (now - self._at) * limit, float(limit))
        self._at = now


def judge_window(
    window: SlidingWindow, *, quota: str, hard: int | None, soft: int | None, now: float, wall: datetime
) -> Decision:
    """Whether one more request fits a sliding window."""
    if hard is None and soft is None:
        return _FITS
    count = window.count(now) + 1
    if hard is not None and count > hard:
        wait = window.wait(now, hard) if hard else window.seconds
        return Decision(_requests(quota, hard, wait, wall))
    return _PASSES_SOFT if soft is not None and count > soft else _FITS


def judge_bucket(
    bucket: TokenBucket, softer: TokenBucket, *, quota: str, hard: int | None, soft: int | None, now: float,
    wall: datetime,
) -> Decision:  # fmt: skip
    """Whether one more request fits a bucket; ``softer`` is that of the soft limit, which fills at its own pace."""
    if hard is not None:
        wait = bucket.wait(now, hard) if hard else 1.0
        if wait:
            return Decision(_requests(quota, hard, wait, wall))
    return _PASSES_SOFT if soft is not None and (not soft or softer.wait(now, soft)) else _FITS


def _requests(quota: str, limit: int, wait: float, wall: datetime) -> Refusal:
    reset = wall + timedelta(seconds=wait)
    message = f"The quota {quota} ({limit}) is used up; it opens again at {reset.isoformat(timespec='seconds')}."
    if not limit:
        message = _of_none(quota, "request")
    return Refusal(quota, wait, reset, message)


def _of_none(quota: str, thing: str) -> str:
    return f"The quota {quota} is 0: no {thing} is let through until the operator raises it."


def judge_total(
    *,
    quota: str,
    used: int | Decimal,
    reserved: int | Decimal,
    worst: int | Decimal,
    hard: int | Decimal | None,
    soft: int | Decimal | None,
    reset: Callable[[datetime], datetime],
    wall: datetime,
) -> Decision:
    """Whether ``worst`` more fits a fixed window beside what is ``used`` and what calls in flight have ``reserved``.

    ``reset`` gives the window's end. Where it fits but for what is reserved, the wait is not until then.
    """
    total = used + reserved + worst
    if hard is not None and total > hard:
        less = "; a lower max_tokens may fit" if used < hard else ""
        if worst > hard:
            less = f", and then holds no call that may take so much either{less}"
        reset_at = reset(wall)
        wait = max((reset_at - wall).total_seconds(), 1.0)
        held = f" and {_text(reserved)} held by calls in flight" if reserved else ""
        soon = "Room comes free as these calls end, and all of it" if used + worst <= hard else "It opens again"
        message = (
            f"The quota {quota} ({_text(hard)}) leaves too little: {_text(used)} used{held}, and this call may take "
            f"{_text(worst)}. {soon} at {reset_at.isoformat(timespec='seconds')}{less}."
        )
        if not hard:
            message = _of_none(quota, "call")
        return Decision(Refusal(quota, wait if used + worst > hard else min(wait, HELD_SECONDS), reset_at, message))
    return _PASSES_SOFT if soft is not None and used > soft else _FITS


def judge_sessions(running: int, hard: int, wall: datetime) -> Refusal:
    """Why one more session than ``hard`` may not begin a turn."""
    reset = wall + timedelta(seconds=HELD_SECONDS)
    message = (
        f"The quota concurrent_sessions ({hard}) is used up: a turn runs in {running} "
        f"session{'s' if running != 1 else ''}. Try again as one of them ends, or go on in one of these."
    )
    if not hard:
        message = _of_none("concurrent_sessions", "turn")
    return Refusal("concurrent_sessions", HELD_SECONDS, reset, message)


def day_reset(wall: datetime) -> datetime:
    """When the day of ``wall`` ends."""
    return midnight(wall.astimezone(UTC).date() + ONE_DAY)


def month_reset(wall: datetime) -> datetime:
    """When the month of ``wall`` ends."""
    return midnight(next_month(wall.astimezone(UTC).date()))


def _text(amount: int | Decimal) -> str:
    return plain(amount) if isinstance(amount, Decimal) else str(amount)
