"""What was true of each tenant since when, and how the last reconciles of it ended. It outlives a restart.

Rows are kept as text and taken apart only to be shown: ten thousand of them cost a start nothing. For the reconciler's
thread.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple

import apsw

from carrel.clock import Clock
from carrel.plan.conditions import TYPES, Claim, Condition

Outcome = Literal["applied", "failed", "held", "suspended", "corrected", "deleted"]
RESULTS: Final = 10
"""How many results are kept of each tenant."""
HOUSE: Final = "_gateway"
"""Whose conditions are the gateway's own."""
SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS standing (tenant TEXT PRIMARY KEY, statuses TEXT NOT NULL, since TEXT NOT NULL, "
    "results TEXT NOT NULL) WITHOUT ROWID;"
)


@dataclass(frozen=True, slots=True)
class Result:
    """How one reconcile ended that changed something, or failed to. ``revision`` is what was to come into force."""

    at: datetime
    revision: str
    outcome: Outcome
    message: str


class Stood(NamedTuple):
    """What was true of a tenant at one moment. ``since`` and ``last`` (the results) are texts as they are kept."""

    claims: tuple[Claim, ...] = ()
    since: str = ""
    observed: str = ""
    last: str = "[]"

    def dated(self) -> tuple[tuple[Claim, str], ...]:
        """What is true, each with since when, in the order of `TYPES`; empty where nothing is known."""
        if len(self.claims) != len(TYPES):
            return ()
        return tuple(zip(self.claims, self.since.split(" "), strict=True))

    def conditions(self) -> tuple[Condition, ...]:
        """The same as conditions."""
        return tuple(
            Condition(
                claim.type, claim.status, claim.reason, claim.message, self.observed, datetime.fromisoformat(since)
            )
            for claim, since in self.dated()
        )

    def results(self) -> tuple[Result, ...]:
        """The last results, oldest first."""
        found = json.loads(self.last)
        return tuple(Result(datetime.fromisoformat(at), rev, outcome, text) for at, rev, outcome, text in found)


@dataclass(slots=True)
class _Stand:
    statuses: str
    since: str
    results: str = "[]"
    claims: tuple[Claim, ...] = ()
    observed: str = ""


class Standing:
    """All of it, in memory; what changes is written by `write`, in the record's transaction.

    ``version`` grows with every change, also of what is not written.
    """

    def __init__(self, connection: apsw.Connection, clock: Clock) -> None:
        self._clock = clock
        rows = connection.execute("SELECT tenant, statuses, since, results FROM standing")
        self._stands = {str(t): _Stand(str(statuses), str(since), str(results)) for t, statuses, since, results in rows}
        self._changed: set[str] = set()
        self.version = 0

    def update(self, tenant: str, claims: Sequence[Claim], observed: str) -> bool:
        """Take in what is true now; whether a status changed. A new reason alone is no transition."""
        stand = self._stands.get(tenant)
        statuses = "".join([claim.status[0] for claim in claims])
        if stand is None:
            stand = self._stands[tenant] = _Stand("", "")
        if stand.observed != observed or (stand.claims is not claims and stand.claims != tuple(claims)):
            stand.claims, stand.observed = tuple(claims), observed
            self.version += 1
        if stand.statuses == statuses:
            return False
        now = self._clock.now().isoformat()
        before = stand.since.split(" ") if len(stand.statuses) == len(statuses) else [now] * len(statuses)
        stand.since = " ".join(
            since if old == new else now
            for old, new, since in zip(stand.statuses or statuses, statuses, before, strict=True)
        )
        stand.statuses = statuses
        self._changed.add(tenant)
        return True

    def ended(self, tenant: str, revision: str, outcome: Outcome, message: str = "") -> None:
        """Add a result. The same one again only moves its time: a failure that repeats does not push others out."""
        stand = self._stands.setdefault(tenant, _Stand("", ""))
        results = json.loads(stand.results)
        entry = [self._clock.now().isoformat(), revision, outcome, message[:500]]
        if results and results[-1][1:] == entry[1:]:
            results[-1] = entry
        else:
            results = [*results, entry][-RESULTS:]
        stand.results = json.dumps(results)
        self._changed.add(tenant)
        self.version += 1

    def forget(self, tenant: str) -> None:
        """Nothing is left of the tenant."""
        if self._stands.pop(tenant, None) is not None:
            self._changed.add(tenant)
            self.version += 1

    def claims(self, tenant: str) -> tuple[Claim, ...]:
        """What is true now, without since when; empty where nothing is known."""
        stand = self._stands.get(tenant)
        return () if stand is None else stand.claims

    def unwell(self) -> list[str]:
        """The tenants that are not ready, or of whom more is to be done."""
        return [
            tenant
            for tenant, stand in self._stands.items()
            if tenant != HOUSE and (stand.statuses[:1] != "T" or "T" in stand.statuses[1:])
        ]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many tenants have each status of each condition."""
        found: dict[tuple[str, str], int] = {}
        for tenant, stand in self._stands.items():
            if tenant != HOUSE:
                for claim in stand.claims:
                    found[claim.type, claim.status] = found.get((claim.type, claim.status), 0) + 1
        return found

    def stood(self, tenant: str) -> Stood:
        """What is true of the tenant now, to be told later."""
        stand = self._stands.get(tenant)
        return Stood() if stand is None else Stood(stand.claims, stand.since, stand.observed, stand.results)

    def conditions(self, tenant: str) -> tuple[Condition, ...]:
        """The tenant's conditions, in the order of `TYPES`."""
        return self.stood(tenant).conditions()

    def results(self, tenant: str) -> tuple[Result, ...]:
        """The tenant's last results, oldest first."""
        return self.stood(tenant).results()

    @property
    def pending(self) -> bool:
        """Whether something is to be written."""
        return bool(self._changed)

    def write(self, connection: apsw.Connection) -> None:
        """Write what changed, within a transaction; `written` when that is committed."""
        gone = [(tenant,) for tenant in self._changed if tenant not in self._stands]
        connection.executemany("DELETE FROM standing WHERE tenant = ?", gone)
        connection.executemany(
            "INSERT OR REPLACE INTO standing VALUES (?, ?, ?, ?)",
            [
                (tenant, stand.statuses, stand.since, stand.results)
                for tenant in self._changed
                if (stand := self._stands.get(tenant)) is not None
            ],
        )

    def written(self) -> None:
        """What `write` wrote is committed."""
        self._changed = set()
