"""When something that failed for a tenant may be tried again: later and later, or not before something changes.

What is retried is one action on one revision. A change is a new revision, and begins anew.
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from carrel.clock import Clock
from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.plan.conditions import Trouble

FIRST_SECONDS: Final = 1.0
MOST_SECONDS: Final = 300.0
_MOST_DOUBLINGS: Final = 16


@dataclass(frozen=True, slots=True)
class _Failed:
    revision: str
    count: int
    due: float
    trouble: Trouble


class Attempts:
    """The failures of one kind of action, by tenant. ``spread`` gives 0 to 1, so that many do not return together."""

    def __init__(self, clock: Clock, *, spread: Callable[[], float] = random.random) -> None:
        self.clock = clock
        self._spread = spread
        self._failed: dict[TenantId, _Failed] = {}

    def __len__(self) -> int:
        return len(self._failed)

    def failed(self, tenant: TenantId, revision: str, reason: str, error: CarrelError) -> Trouble:
        """Note that it failed. What is retryable waits twice as long each time, up to `MOST_SECONDS`."""
        before = self._failed.get(tenant)
        count = before.count + 1 if before is not None and before.revision == revision else 1
        delay, again = math.inf, None
        if error.retryable:
            longest = min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(count - 1, _MOST_DOUBLINGS))
            delay = longest * (0.5 + self._spread() / 2)
            again = self.clock.now() + timedelta(seconds=delay)
        trouble = Trouble(reason, error.message, count, again)
        self._failed[tenant] = _Failed(revision, count, self.clock.monotonic() + delay, trouble)
        return trouble

    def succeeded(self, tenant: TenantId) -> None:
        """Forget what failed before."""
        self._failed.pop(tenant, None)

    def may(self, tenant: TenantId, revision: str) -> bool:
        """Whether it may be tried now: nothing failed, something changed since, or its time has come."""
        failed = self._failed.get(tenant)
        return failed is None or failed.revision != revision or failed.due <= self.clock.monotonic()

    def hurry(self, tenant: TenantId | None = None) -> None:
        """A person asks: what failed, of ``tenant`` or of all, may be tried now."""
        for one in [tenant] if tenant is not None else list(self._failed):
            failed = self._failed.get(one)
            if failed is not None:
                self._failed[one] = _Failed(failed.revision, failed.count, -math.inf, failed.trouble)

    def trouble(self, tenant: TenantId) -> Trouble | None:
        """What failed last, None where nothing did."""
        failed = self._failed.get(tenant)
        return None if failed is None else failed.trouble

    def due(self) -> set[TenantId]:
        """The tenants whose time has come."""
        now = self.clock.monotonic()
        return {tenant for tenant, failed in self._failed.items() if failed.due <= now}

    def wait(self) -> float:
        """Seconds until the next is due, infinity where none is."""
        first = min((failed.due for failed in self._failed.values()), default=math.inf)
        return max(0.0, first - self.clock.monotonic())
