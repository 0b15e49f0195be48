"""A circuit breaker: after enough failures nobody asks for a while, then one call tries, and all follow where it works.

Knows no provider: whoever calls says how it went. What failed for the caller's own fault is no failure here.
"""

from typing import Final, Literal

from carrel.clock import Clock
from carrel.declare.gateway import CircuitConfig

State = Literal["closed", "open", "half_open"]
_BUCKETS: Final = 10
SHARE: Final = 0.5
"""Failures open a circuit where they are at least so many of the window's calls: a busy provider fails now and then."""


class Circuit:
    """One circuit. `admit` a call, then say once how it went."""

    __slots__ = ("_buckets", "_clock", "_probing", "_until", "failures", "opened", "state")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[int, list[int]] = {}
        self._until = 0.0
        self._probing = False
        self.state: State = "closed"
        self.failures = 0
        self.opened = 0

    def admit(self, config: CircuitConfig) -> float | None:
        """None where a call may go; else in how many seconds to ask again."""
        if self.state == "closed" or config.failures is None:
            return None
        left = self._until - self._clock.monotonic()
        if self.state == "open":
            if left > 0:
                return left
            self.state = "half_open"
        if self._probing:
            return max(left, 1.0)
        self._probing = True
        return None

    def succeeded(self, config: CircuitConfig) -> None:
        """A call went well."""
        if self.state != "closed":
            self.state, self._probing = "closed", False
            self._buckets.clear()
            return
        self._bucket(config)[0] += 1

    def failed(self, config: CircuitConfig) -> None:
        """A call failed, and not by its caller's fault."""
        self.failures += 1
        if self.state == "half_open":
            self._open(config)
            return
        if self.state == "open":
            return
        self._bucket(config)[1] += 1
        good = sum(bucket[0] for bucket in self._buckets.values())
        bad = sum(bucket[1] for bucket in self._buckets.values())
        if config.failures is not None and bad >= config.failures and bad >= SHARE * (good + bad):
            self._open(config)

    def left(self) -> None:
        """A call ended without a word on the provider: its caller went away, or was refused here."""
        self._probing = False

    def _open(self, config: CircuitConfig) -> None:
        self.state, self._probing = "open", False
        self._until = self._clock.monotonic() + config.open_seconds
        self._buckets.clear()
        self.opened += 1

    def _bucket(self, config: CircuitConfig) -> list[int]:
        """Good and bad calls of now; what is older than the window is forgotten."""
        now = int(self._clock.monotonic() * _BUCKETS / config.window_seconds)
        bucket = self._buckets.get(now)
        if bucket is None:
            for old in [number for number in self._buckets if number <= now - _BUCKETS]:
                del self._buckets[old]
            bucket = self._buckets[now] = [0, 0]
        return bucket
