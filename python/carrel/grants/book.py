"""One tenant's requests and grants, as a small file beneath its root. What cannot be read grants nothing."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from carrel.errors import CarrelError, NotFound
from carrel.ids import SessionId
from carrel.tenancy.handle import Tenant

FILE: Final = "grants.json"
MOST_BYTES: Final = 1 << 20
MOST_WAITING: Final = 50
KEPT: Final = 500
ONCE: Final = timedelta(seconds=10)
"""What was granted once is good for what begins so soon after its first use: a program asks for one thing in steps."""

Kind = Literal["host", "package", "tool"]
Decision = Literal["once", "1h", "24h", "always", "deny"]
SPANS: Final[Mapping[str, timedelta]] = {"1h": timedelta(hours=1), "24h": timedelta(hours=24)}


class Grant(BaseModel):
    """One request, and what was decided. It is bound to who asked: agent and session, and to exactly what was asked.

    ``member`` is whose the session is, where members have sessions of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    id: str
    kind: Kind
    what: Annotated[str, Field(max_length=300)]
    reason: Annotated[str, Field(max_length=2000)]
    agent: str
    session_id: SessionId
    member: str | None = None
    asked: datetime
    decision: Decision | None = None
    decided: datetime | None = None
    decided_by: str | None = None
    used: datetime | None = None

    def is_of(self, agent: str, session_id: SessionId | None, member: str | None) -> bool:
        """Whether that agent asked for it, in that session; two members may each have a session of one id."""
        return (self.agent, self.session_id, self.member) == (agent, session_id, member)

    def is_seen_by(self, member: str | None) -> bool:
        """Whether ``member`` knows of it, who has sessions of their own; None sees all."""
        return member is None or member == self.member

    def in_force(self, now: datetime) -> bool:
        """Whether it opens something at ``now``."""
        if self.decision is None or self.decision == "deny" or self.decided is None or now < self.decided:
            return False
        if self.decision == "once":
            return self.used is None or now < self.used + ONCE
        span = SPANS.get(self.decision)
        return span is None or now < self.decided + span

    def state(self, now: datetime) -> Literal["waiting", "granted", "denied", "over"]:
        """Where it stands."""
        if self.decision is None:
            return "waiting"
        if self.decision == "deny":
            return "denied"
        return "granted" if self.in_force(now) else "over"


class Unreadable(CarrelError):
    """The file of grants is not as it was written: nothing is granted, and nothing decided, until somebody looks."""

    code = "grants_unreadable"


_ALL: Final = TypeAdapter(list[Grant])


def read(tenant: Tenant) -> list[Grant]:
    """All that are kept, oldest first; raises Unreadable. Blocking."""
    try:
        return _ALL.validate_json(tenant.root.read(FILE, limit=MOST_BYTES))
    except NotFound:
        return []
    except (ValidationError, CarrelError) as error:
        raise Unreadable(
            "The file of this tenant's grants cannot be read; its operator finds it in the state."
        ) from error


def write(tenant: Tenant, grants: list[Grant], now: datetime) -> list[Grant]:
    """Keep them, those that are over only while there are few; what was kept, on the disk by then. Blocking."""
    kept = grants
    if len(kept) > KEPT:
        live = [grant for grant in grants if grant.state(now) in ("waiting", "granted")]
        over = [grant for grant in grants if grant not in live]
        chosen = {grant.id for grant in (*live, *over[-max(0, KEPT - len(live)) :])}
        kept = [grant for grant in grants if grant.id in chosen]
    tenant.root.replace(FILE, _ALL.dump_json(kept, exclude_none=True))
    return kept


def new_id() -> str:
    """An id for a request."""
    return f"gr_{uuid4().hex[:16]}"
