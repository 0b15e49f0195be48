"""Conditions: what is true of a tenant, in the sense that Kubernetes gives the word. Pure.

Four of them, each `True`, `False` or `Unknown` with a reason for machines and a sentence for people. `Ready`: its
newest declaration is in force and it is served. `Reconciling`: something is still to be done for it, and will be by
itself. `Stalled`: it stays as it is until somebody changes something. `Suspended`: nothing runs for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

ConditionType = Literal["Ready", "Reconciling", "Stalled", "Suspended"]
ConditionStatus = Literal["True", "False", "Unknown"]
State = Literal["Ready", "Reconciling", "Suspended", "Stalled", "Removed"]
TYPES: Final[tuple[ConditionType, ...]] = ("Ready", "Reconciling", "Stalled", "Suspended")
STATUSES: Final[tuple[ConditionStatus, ...]] = ("True", "False", "Unknown")


@dataclass(frozen=True, slots=True)
class Claim:
    """A condition's content, without since when it holds."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. ``last_transition_time`` is when its status last changed, not its reason."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str
    observed_revision: str
    last_transition_time: datetime


@dataclass(frozen=True, slots=True)
class Trouble:
    """What failed for a tenant. ``again_at`` is when it is tried again; None where only a change helps."""

    reason: str
    message: str
    attempts: int = 1
    again_at: datetime | None = None

    def __str__(self) -> str:
        if self.again_at is None:
            return f"{self.message} It is not tried again before something changes."
        return f"{self.message} Tried {self.attempts} times; again at {_moment(self.again_at)}."


@dataclass(frozen=True, slots=True)
class Removal:
    """Where a tenant stands that is no longer declared.

    ``held``: not acted upon until it is confirmed. ``refused``: it is protected. ``kept``: suspended, its data kept.
    ``unowned``: there is data, and nothing says that Carrel made it. ``deleting``: its final backup or its deletion is
    under way.
    """

    stage: Literal["held", "refused", "kept", "unowned", "deleting"]
    delete_at: datetime | None = None
    confirm: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that one tenant's conditions follow from.

    ``problem`` is what is wrong with its newest declaration; ``served`` says whether anything is in force for it.
    ``waits`` is set where the operator's files are broken and its newest declaration waits for them. ``resting`` says
    why nothing runs for it for a while.
    """

    served: bool = True
    suspended: bool = False
    problem: str | None = None
    waits: bool = False
    removal: Removal | None = None
    trouble: Trouble | None = None
    environment: Literal["", "building", "failed"] = ""
    environment_reason: str = ""
    drift: tuple[str, ...] = ()
    resting: str = ""


_NO_GOOD_VERSION: Final = "its declaration is broken and there was no good one before"
_LAST_GOOD: Final = "the last good version stays in force"


def claims_of(facts: Facts) -> tuple[Claim, Claim, Claim, Claim]:
    """The four conditions, in the order of `TYPES`."""
    stalled, reconciling, suspended = _stalled(facts), _reconciling(facts), _suspended(facts)
    return _ready(facts, stalled, suspended, reconciling), reconciling, stalled, suspended


def state_of(claims: Sequence[Claim]) -> State:
    """One word for the four: what an operator would ask about first."""
    ready, reconciling, stalled, suspended = claims
    if suspended.status == "True" and suspended.reason in ("FileRemoved", "NotInInventory", "Deleting"):
        return "Removed"
    if stalled.status == "True":
        return "Stalled"
    if suspended.status == "True":
        return "Suspended"
    return "Ready" if ready.status == "True" or reconciling.status != "True" else "Reconciling"


def headline(claims: Sequence[Claim]) -> Claim:
    """The one of the four to show where there is room for one."""
    ready, reconciling, stalled, suspended = claims
    match state_of(claims):
        case "Removed" | "Suspended":
            return suspended
        case "Stalled":
            return stalled
        case _:
            return reconciling if reconciling.status == "True" else ready


def _stalled(facts: Facts) -> Claim:
    removal = facts.removal
    if facts.problem is not None:
        reason, kept = ("Invalid", _LAST_GOOD) if facts.served else ("NeverGood", _NO_GOOD_VERSION)
        return Claim("Stalled", "True", reason, f"{facts.problem}; {kept}")
    if removal is not None and removal.stage == "held":
        word = f"`carrel reconcile --confirm {removal.confirm}`"
        message = f"no longer declared, with many others: nothing is done until {word}"
        return Claim("Stalled", "True", "RemovalNeedsConfirm", message)
    if removal is not None and removal.stage == "refused":
        message = "its file is gone and it is protected: put the file back; take `protect: true` out of it to remove it"
        return Claim("Stalled", "True", "Protected", message)
    if facts.trouble is not None and facts.trouble.again_at is None:
        return Claim("Stalled", "True", facts.trouble.reason, str(facts.trouble))
    if facts.environment == "failed" and not facts.suspended:
        message = f"its tools have no environment: {facts.environment_reason}"
        return Claim("Stalled", "True", "EnvironmentFailed", message)
    return Claim("Stalled", "False", "NothingBlocks")


def _reconciling(facts: Facts) -> Claim:
    removal = facts.removal
    if facts.resting:
        return Claim("Reconciling", "True", "Resting", facts.resting)
    if facts.trouble is not None and facts.trouble.again_at is not None:
        return Claim("Reconciling", "True", facts.trouble.reason, str(facts.trouble))
    if removal is not None and removal.stage == "deleting":
        return Claim("Reconciling", "True", "Deleting", "its final backup is made, and then it is deleted")
    if removal is not None and removal.delete_at is not None:
        return Claim("Reconciling", "True", "AwaitingDeletion", f"deleted after {_moment(removal.delete_at)}")
    if facts.waits:
        return Claim("Reconciling", "True", "OperatorsInvalid", "in force as before: the operator's files are broken")
    if facts.environment == "building" and not facts.suspended:
        message = f"in force; its environment: {facts.environment_reason or 'it is being built'}"
        return Claim("Reconciling", "True", "BuildingEnvironment", message)
    if facts.drift:
        return Claim("Reconciling", "True", "Drifted", "; ".join(facts.drift))
    return Claim("Reconciling", "False", "UpToDate")


def _suspended(facts: Facts) -> Claim:
    removal = facts.removal
    if removal is not None and removal.stage in ("kept", "deleting"):
        message = "no longer declared; suspended, its data is kept"
        if removal.delete_at is not None:
            message = f"{message} until {_moment(removal.delete_at)}"
        return Claim("Suspended", "True", "Deleting" if removal.stage == "deleting" else "FileRemoved", message)
    if removal is not None and removal.stage == "unowned":
        message = "there is data of it, it is not declared, and Carrel did not make it: it is left alone"
        return Claim("Suspended", "True", "NotInInventory", message)
    if facts.resting:
        return Claim("Suspended", "True", "Resting", facts.resting)
    if not facts.served:
        return Claim("Suspended", "True", "NeverGood", _NO_GOOD_VERSION)
    if facts.suspended:
        return Claim("Suspended", "True", "Declared", "suspended by its declaration")
    return Claim("Suspended", "False", "NotSuspended")


def _ready(facts: Facts, stalled: Claim, suspended: Claim, reconciling: Claim) -> Claim:
    if suspended.status == "True":
        return Claim("Ready", "False", suspended.reason, suspended.message)
    if stalled.status == "True":
        return Claim("Ready", "False", stalled.reason, stalled.message)
    if facts.trouble is not None or facts.waits:
        return Claim("Ready", "False", reconciling.reason, reconciling.message)
    return Claim("Ready", "True", "Applied", "in force")


def _moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
