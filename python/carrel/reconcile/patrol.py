"""Looks whether tenants' state is still as Carrel made it, and puts right what it may. It blocks: run it in a thread.

A directory whose change time is the same was not touched: one scan of all of them says who is to be looked at closely.
What lies deeper is looked at in rounds, some tenants at a time.
"""

import os
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from carrel.clock import Clock
from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.plan.drift import MODE, Drift, Seen, drift_of, uncommitted
from carrel.reconcile.attempts import Attempts
from carrel.reconcile.places import Hands, Places

_SETTLED_NANOSECONDS: Final = 100_000_000
"""A change time this young may be that of a later change too: clocks of file systems tick coarsely."""


class TokenFiles(Protocol):
    """The files that tenants' tokens are kept in, which only the gateway writes."""

    def drifted(self, tenant: TenantId) -> bool:
        """Whether the file is not as the gateway read or wrote it."""
        ...

    def reload(self, tenant: TenantId) -> None:
        """Take in what is there now; raises CarrelError."""
        ...


@dataclass(frozen=True, slots=True)
class News:
    """What came of a look at one tenant. ``renewed``: its directory was made anew."""

    corrected: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    renewed: bool = False


class Patrol:
    """What is known of tenants' directories. ``tokens`` may be set once there is a store of them.

    ``uncommitted`` are the names of declarations with changes in no commit, where what is declared is in a work tree.
    """

    def __init__(self, places: Places, hands: Hands, clock: Clock) -> None:
        self.tokens: TokenFiles | None = None
        self._places = places
        self._hands = hands
        self.mends = Attempts(clock)
        self._uid = os.geteuid()
        self._known: dict[str, tuple[int, int]] = {}
        self._suspects: set[TenantId] = set()
        self._drift: dict[TenantId, tuple[Drift, ...]] = {}
        self._round: list[TenantId] = []
        self.uncommitted: frozenset[str] = frozenset()

    def begin(self) -> Iterable[str]:
        """The first scan; the names of all that is there."""
        self.moved()
        return list(self._known)

    def moved(self) -> set[TenantId]:
        """Whose directory changed since the last scan, or is gone. They are looked at by the next `due`."""
        now = time.time_ns()  # what the kernel stamps files with
        seen: dict[str, tuple[int, int]] = {}
        found: set[TenantId] = set()
        first = not self._known
        for name, what in self._places.stats():
            place = what.st_ino, what.st_ctime_ns if now - what.st_ctime_ns > _SETTLED_NANOSECONDS else -1
            seen[name] = place
            if self._known.get(name) != place or place[1] < 0:
                found.add(TenantId(name))
                odd = not stat.S_ISDIR(what.st_mode) or stat.S_IMODE(what.st_mode) != MODE or what.st_uid != self._uid
                if odd or not first:
                    self._suspects.add(TenantId(name))
        found.update(gone := {TenantId(name) for name in self._known if name not in seen})
        self._suspects |= gone
        self._known = seen
        return found

    def has(self, tenant: TenantId) -> bool:
        """Whether the tenant's directory was there when it was last looked at."""
        return tenant in self._known and tenant not in self._suspects

    def made(self, tenant: TenantId) -> None:
        """The directory was made just now: the next scan sees it as it is."""
        self._known[tenant] = (-1, -1)

    def suspect(self, tenant: TenantId) -> None:
        """Look at this one closely the next time."""
        self._suspects.add(tenant)

    def forget(self, tenant: TenantId) -> None:
        """Nothing is left of the tenant."""
        self._known.pop(tenant, None)
        self._suspects.discard(tenant)
        self._drift.pop(tenant, None)
        self.mends.succeeded(tenant)

    def due(self, tenants: Mapping[TenantId, object] | Iterable[TenantId], count: int) -> list[TenantId]:
        """Whom to look at now: those that changed, and the next ``count`` of the round."""
        if not self._round:
            self._round = list(tenants)
        turn, self._round = self._round[:count], self._round[count:]
        suspects, self._suspects = self._suspects, set()
        return [*suspects, *(t for t in turn if t not in suspects), *self.mends.due()]

    def drift(self, tenant: TenantId) -> tuple[Drift, ...]:
        """How the tenant's state differed when it was last looked at."""
        return self._drift.get(tenant, ())

    def shown(self, tenant: TenantId) -> tuple[Drift, ...]:
        """The same, and that its file is in no commit, which is nothing to wait for or to mend here."""
        drift = self.drift(tenant)
        if not self.uncommitted or (file := f"{tenant}.yaml") not in self.uncommitted:
            return drift
        return (*drift, uncommitted(file))

    def kinds(self) -> dict[str, int]:
        """How many differences there are of each kind."""
        found: dict[str, int] = {"file_uncommitted": len(self.uncommitted)} if self.uncommitted else {}
        for drifts in self._drift.values():
            for one in drifts:
                found[one.kind] = found.get(one.kind, 0) + 1
        return found

    def inspect(self, tenant: TenantId, revision: str, *, mends: bool) -> News | None:
        """Look closely at one tenant; None where nothing is new. With ``mends`` what can be put right is."""
        before = self.drift(tenant)
        drifts = self._look(tenant)
        if not drifts:
            self._drift.pop(tenant, None)
            self.mends.succeeded(tenant)
            return News() if before else None
        corrected, failed, renewed = [], [], False
        if mends and self.mends.may(tenant, _key(revision, drifts)):
            for one in drifts:
                if not one.mendable:
                    continue
                try:
                    self._mend(tenant, one)
                except CarrelError as error:
                    self.mends.failed(tenant, _key(revision, drifts), "NotMended", error)
                    failed.append(error.message)
                else:
                    corrected.append(str(one))
                    renewed = renewed or one.kind == "directory_missing"
            drifts = self._look(tenant) if corrected else drifts
        if drifts:
            self._drift[tenant] = drifts
        else:
            self._drift.pop(tenant, None)
        if corrected or failed or drifts != before:
            return News(tuple(corrected), tuple(failed), renewed)
        return None

    def _look(self, tenant: TenantId) -> tuple[Drift, ...]:
        seen = self._hands.look(tenant)
        changed = self.tokens is not None and seen.mode is not None and self.tokens.drifted(tenant)
        if changed:
            seen = Seen(seen.mode, seen.uid, seen.acl, seen.missing, tokens_changed=True)
        return drift_of(tenant, seen, uid=self._uid)

    def _mend(self, tenant: TenantId, drift: Drift) -> None:
        if drift.kind == "tokens_changed":
            if self.tokens is not None:
                self.tokens.reload(tenant)
        else:
            self._hands.mend(tenant, drift)


def _key(revision: str, drifts: tuple[Drift, ...]) -> str:
    return f"{revision}:{'|'.join(map(str, drifts))}"
