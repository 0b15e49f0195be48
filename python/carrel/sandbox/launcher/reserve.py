"""Groups with a berth in them already, for tenants that start one sandbox after the other.

Being born into a group takes a second fork, which is a quarter of a start; who is in one before it is wanted saves
that, and the writing of limits. Made while nothing else is to do, one for each of the last few tenants, with the limits
of their last sandbox; given up when it is not wanted for a while. Knows nothing of what is run.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from carrel.sandbox.launcher.berths import Berth, Berths
from carrel.sandbox.launcher.groups import Groups, Place

MOST: Final = 4
"""For so many tenants."""
IDLE_SECONDS: Final = 30.0
"""How long one waits, and within what time a second start makes a first one worth it."""


@dataclass(slots=True)
class _Wanted:
    """What a tenant's last sandbox had, when that was, and whether it was one of several."""

    group: Any
    at: float
    again: bool


@dataclass(frozen=True, slots=True)
class _Ready:
    group: Any
    place: Place
    berth: Berth


class Reserve:
    """Of one launcher. ``groups`` makes the groups, ``berths`` who waits in them."""

    def __init__(self, groups: Groups, berths: Berths, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._groups = groups
        self._berths = berths
        self._wanted: OrderedDict[str, _Wanted] = OrderedDict()
        self._ready: dict[str, _Ready] = {}
        self._made = 0

    def take(self, group: Any) -> tuple[Place, Berth] | None:
        """One that has exactly the limits ``group``, None where none waits; noted is that its tenant starts one."""
        now, tenant = self._clock(), group["tenant"]
        before = self._wanted.pop(tenant, None)
        again = before is not None and now - before.at < IDLE_SECONDS
        self._wanted[tenant] = _Wanted(group, now, again)
        while len(self._wanted) > MOST:
            self._forget(next(iter(self._wanted)))
        ready = self._ready.pop(tenant, None)
        if ready is None:
            return None
        if ready.group != group or ready.berth.problem is not None:
            self._give_up(ready)
            return None
        ready.place.renew()
        return ready.place, ready.berth

    @property
    def short(self) -> bool:
        """Whether one is to be made."""
        return self._next() is not None

    def refill(self) -> None:
        """Make one. Raises OSError where none can be made, and does not try that one again by itself."""
        tenant = self._next()
        if tenant is None:
            return
        wanted = self._wanted[tenant]
        wanted.again = False
        self._made += 1
        place = self._groups.begin(f"r-{self._made}", wanted.group, kept=False)
        try:
            berth = self._berths.made_in(place.fd)
        except BaseException:
            place.end(kill=True)
            raise
        self._ready[tenant] = _Ready(wanted.group, place, berth)

    def due(self) -> float | None:
        """When the next one is to be given up."""
        return min((self._wanted[tenant].at for tenant in self._ready), default=None)

    def tidy(self, now: float) -> None:
        """Give up those that nobody wanted for so long."""
        for tenant in [t for t, wanted in self._wanted.items() if now - wanted.at >= IDLE_SECONDS]:
            self._forget(tenant)

    def lost(self, pid: int) -> bool:
        """Whether ``pid``, which ended, was one that waited here."""
        for tenant, ready in self._ready.items():
            if ready.berth.pid == pid:
                del self._ready[tenant]
                self._give_up(ready)
                return True
        return False

    def close(self) -> None:
        """Give up all."""
        for tenant in list(self._wanted):
            self._forget(tenant)

    def _next(self) -> str | None:
        return next((t for t, wanted in self._wanted.items() if wanted.again and t not in self._ready), None)

    def _forget(self, tenant: str) -> None:
        del self._wanted[tenant]
        ready = self._ready.pop(tenant, None)
        if ready is not None:
            self._give_up(ready)

    def _give_up(self, ready: _Ready) -> None:
        self._berths.done(ready.berth)
        ready.place.end(kill=True)
