"""What one tenant has used and what its calls in flight hold, against its quotas. In memory, made from the ledger."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from carrel.declare.quotas import CountLimit, Quotas
from carrel.ids import SessionId
from carrel.metering.rows import DAY, moment
from carrel.policy.pricing import add, subtract
from carrel.policy.quota import (
    Decision,
    Refusal,
    SlidingWindow,
    TokenBucket,
    day_reset,
    judge_bucket,
    judge_sessions,
    judge_total,
    judge_window,
    month_reset,
)

_ZERO: Final = Decimal(0)
_DAYS_KEPT: Final = 3


@dataclass(frozen=True, slots=True)
class QuotaState:
    """One declared quota: what is used of it, what calls in flight hold, and when its window opens again."""

    name: str
    used: int | Decimal
    reserved: int | Decimal
    hard: int | Decimal | None
    soft: int | Decimal | None
    reset_at: datetime | None


@dataclass(frozen=True, slots=True)
class TotalLimit:
    """A declared quota of tokens or dollars, of a day or a month."""

    name: str
    hard: int | Decimal | None
    soft: int | Decimal | None
    monthly: bool
    money: bool

    def of(self, window: "Window") -> tuple[int | Decimal, int | Decimal]:
        """What is used of it in its window, and what is held."""
        return (window.cost, window.held_cost) if self.money else (window.tokens, window.held_tokens)


@dataclass(frozen=True, slots=True)
class Limits:
    """A tenant's quotas that are declared, read once for each revision of them."""

    source: Quotas
    requests: tuple[tuple[str, CountLimit], ...]
    totals: tuple[TotalLimit, ...]
    sessions: CountLimit = field(default_factory=CountLimit)
    measured: Mapping[str, int] = field(default_factory=dict)
    """Soft limits of what others measure, by the quota's name."""
    any_soft: bool = False
    """Whether one of tokens or dollars is soft."""

    @classmethod
    def of(cls, quotas: Quotas) -> "Limits":
        """The limits that ``quotas`` declares."""
        requests = [(name, quotas.count(name)) for name in (f"requests_per_{unit}" for unit in _REQUEST_UNITS)]
        totals: list[TotalLimit] = []
        for name, monthly in (("tokens_per_day", False), ("tokens_per_month", True)):
            count = quotas.count(name)
            totals.append(TotalLimit(name, count.hard, count.soft, monthly, money=False))
        for name, monthly in (("cost_per_day_usd", False), ("cost_per_month_usd", True)):
            money = quotas.money(name)
            totals.append(TotalLimit(name, money.hard, money.soft, monthly, money=True))
        return cls(
            quotas,
            tuple((name, limit) for name, limit in requests if limit.hard is not None or limit.soft is not None),
            tuple(limit for limit in totals if limit.hard is not None or limit.soft is not None),
            quotas.count("concurrent_sessions"),
            {name: soft for name in MEASURED if (soft := quotas.count(name).soft) is not None},
            any_soft=any(limit.soft is not None for limit in totals),
        )


_REQUEST_UNITS: Final = ("second", "minute", "hour")
MEASURED: Final = (
    "disk_bytes", "disk_files", "snapshots_bytes", "sandbox_cpu_seconds", "sandbox_memory_bytes", "sandbox_pids"
)  # fmt: skip
"""Quotas whose use others measure, and which are refused where they are measured."""


@dataclass(slots=True)
class Window:
    """A fixed window: settled and reserved tokens and dollars."""

    tokens: int = 0
    cost: Decimal = _ZERO
    held_tokens: int = 0
    held_cost: Decimal = _ZERO

    def release(self, tokens: int, cost: Decimal) -> None:
        """Give a reservation back."""
        self.held_tokens -= tokens
        self.held_cost = subtract(self.held_cost, cost)

    def use(self, tokens: int, cost: Decimal) -> None:
        """Count what was used."""
        self.tokens += tokens
        self.cost = add(self.cost, cost)


@dataclass(slots=True)
class Hold:
    """The worst case of one call, held in the windows that it began in."""

    day: Window
    month: Window
    tokens: int
    cost: Decimal


@dataclass(slots=True)
class Account:
    """One tenant's quotas in use."""

    limits: Limits
    days: dict[date, Window] = field(default_factory=dict)
    months: dict[date, Window] = field(default_factory=dict)
    second: TokenBucket = field(default_factory=TokenBucket)
    softer: TokenBucket = field(default_factory=TokenBucket)
    """That of the second's soft limit."""
    minute: SlidingWindow = field(default_factory=lambda: SlidingWindow(60.0))
    hour: SlidingWindow = field(default_factory=lambda: SlidingWindow(3600.0))
    open_calls: int = 0
    warned: dict[str, int] = field(default_factory=dict)
    """Until when (microseconds since 1970) the warning of a quota that was told is enough."""
    over_requests: tuple[str, ...] = ()
    over_totals: tuple[str, ...] = ()
    """Soft limits that are passed, as of the last request and of the last call."""
    sessions: Counter[SessionId] = field(default_factory=Counter)
    """How many turns run or wait in each session."""
    measured: dict[str, int] = field(default_factory=dict)
    """What was measured last of what others measure."""
    _today: tuple[int, int, Window, Window] | None = None
    """When the day of the last call begins and ends (microseconds since 1970), and its windows."""

    def follow(self, quotas: Quotas) -> None:
        """Take ``quotas`` from now on."""
        if self.limits.source is not quotas:
            self.limits = Limits.of(quotas)

    def idle(self, now: float) -> bool:
        """Whether nothing would be forgotten with it that the ledger does not know."""
        return (
            not self.open_calls
            and not self.sessions
            and not self.measured
            and not self.minute.count(now)
            and not self.hour.count(now)
        )

    def admit(self, now: float, wall: datetime) -> tuple[Refusal | None, list[str]]:
        """Count one request, or say why not; with the names of soft limits that it passes."""
        soft: list[str] = []
        limits = [(name, limit, self._window(name)) for name, limit in self.limits.requests]
        for name, limit, window in limits:
            if limit.soft is None and window is not None and window.count(now) < (limit.hard or 0):
                continue
            decision = self._judge_requests(name, limit, now, wall)
            if decision.refusal is not None:
                return decision.refusal, []
            if decision.passed_soft:
                soft.append(name)
        for _, limit, window in limits:
            if window is not None:
                window.add(now)
                continue
            for bucket, pace in ((self.second, limit.hard), (self.softer, limit.soft)):
                if pace:
                    bucket.take(now, pace)
        self.over_requests = tuple(soft)
        return None, soft

    @property
    def over(self) -> tuple[str, ...]:
        """The soft limits that are passed: by the last request, call and measure, and by the sessions of now."""
        soft = self.limits.sessions.soft
        sessions = ("concurrent_sessions",) if soft is not None and len(self.sessions) > soft else ()
        measured = tuple(name for name, most in self.limits.measured.items() if self.measured.get(name, 0) > most)
        return self.over_requests + self.over_totals + sessions + measured

    def enter(self, session: SessionId, wall: datetime) -> Refusal | None:
        """Count a turn in ``session``, or say why not; `leave` takes it back."""
        hard = self.limits.sessions.hard
        if hard is not None and session not in self.sessions and len(self.sessions) >= hard:
            return judge_sessions(len(self.sessions), hard, wall)
        self.sessions[session] += 1
        return None

    def leave(self, session: SessionId) -> None:
        """A turn in ``session`` is over."""
        self.sessions[session] -= 1
        if not self.sessions[session]:
            del self.sessions[session]

    def _window(self, name: str) -> SlidingWindow | None:
        """The window of a quota of requests; a second has none."""
        return self.minute if name == "requests_per_minute" else self.hour if name == "requests_per_hour" else None

    def _judge_requests(self, name: str, limit: CountLimit, now: float, wall: datetime) -> Decision:
        window = self._window(name)
        if window is None:
            return judge_bucket(
                self.second, self.softer, quota=name, hard=limit.hard, soft=limit.soft, now=now, wall=wall
            )  # fmt: skip
        return judge_window(window, quota=name, hard=limit.hard, soft=limit.soft, now=now, wall=wall)

    def hold(self, tokens: int, cost: Decimal, at: int) -> tuple[Hold | Refusal, list[str]]:
        """Hold the worst case of a call in its day and month, or say why not. ``at``: microseconds since 1970."""
        day, month = self.windows(at)
        soft: list[str] = []
        for limit in self.limits.totals:
            used, held = limit.of(month if limit.monthly else day)
            worst = cost if limit.money else tokens
            if limit.soft is None and (limit.hard is None or used + held + worst <= limit.hard):
                continue
            decision = judge_total(
                quota=limit.name, used=used, reserved=held, worst=worst, hard=limit.hard, soft=limit.soft,
                reset=month_reset if limit.monthly else day_reset, wall=moment(at),
            )  # fmt: skip
            if decision.refusal is not None:
                return decision.refusal, soft
            if decision.passed_soft:
                soft.append(limit.name)
        for window in (day, month):
            window.held_tokens += tokens
            window.held_cost = add(window.held_cost, cost)
        self.open_calls += 1
        self.over_totals = tuple(soft)
        return Hold(day, month, tokens, cost), soft

    def release(self, hold: Hold) -> None:
        """Give back what a call held."""
        hold.day.release(hold.tokens, hold.cost)
        hold.month.release(hold.tokens, hold.cost)
        self.open_calls -= 1

    def use(self, hold: Hold, tokens: int, cost: Decimal) -> None:
        """Put what a call used in the place of what it held."""
        for window in (hold.day, hold.month):
            window.held_tokens -= hold.tokens
            window.held_cost = subtract(window.held_cost, hold.cost)
            window.tokens += tokens
            window.cost = add(window.cost, cost)
        self.open_calls -= 1
        if self.limits.any_soft:
            self.over_totals = tuple(
                limit.name
                for limit in self.limits.totals
                if limit.soft is not None and limit.of(hold.month if limit.monthly else hold.day)[0] > limit.soft
            )

    def knows(self, at: int) -> bool:
        """Whether the windows of ``at`` (microseconds since 1970) are here."""
        today = self._today
        if today is not None and today[0] <= at < today[1]:
            return True
        day = moment(at).date()
        return day in self.days and day.replace(day=1) in self.months

    def windows(self, at: int) -> tuple[Window, Window]:
        """The windows of ``at`` (microseconds since 1970); ask `knows` first."""
        today = self._today
        if today is None or not today[0] <= at < today[1]:
            day, first = moment(at).date(), at - at % DAY
            today = self._today = (first, first + DAY, self.days[day], self.months[day.replace(day=1)])
        return today[2], today[3]

    def learn(self, day: date, of_day: Window, of_month: Window) -> None:
        """Take windows from the ledger, where they are not known, and forget old ones that nothing holds."""
        self._today = None
        self.days.setdefault(day, of_day)
        self.months.setdefault(day.replace(day=1), of_month)
        for windows in (self.days, self.months):
            for old in sorted(windows)[:-_DAYS_KEPT]:
                if not windows[old].held_tokens and old not in (day, day.replace(day=1)):
                    del windows[old]

    def status(self, now: float, at: int) -> list[QuotaState]:
        """Every declared quota as it is now; ``at`` as in `windows`."""
        states: list[QuotaState] = []
        for name, limit in self.limits.requests:
            window = self._window(name)
            if window is not None:
                states.append(QuotaState(name, window.count(now), 0, limit.hard, limit.soft, None))
            else:
                states.append(QuotaState(name, 0, 0, limit.hard, limit.soft, None))
        day, month = self.windows(at)
        wall = moment(at)
        for total in self.limits.totals:
            used, held = total.of(month if total.monthly else day)
            reset = month_reset(wall) if total.monthly else day_reset(wall)
            states.append(QuotaState(total.name, used, held, total.hard, total.soft, reset))
        sessions = self.limits.sessions
        if sessions.hard is not None or sessions.soft is not None:
            count = len(self.sessions)
            states.append(QuotaState("concurrent_sessions", count, 0, sessions.hard, sessions.soft, None))
        for name, soft in self.limits.measured.items():
            if name.startswith("sandbox_"):
                states.append(QuotaState(name, self.measured.get(name, 0), 0, None, soft, None))
        return states

    def first_warning(self, quota: str, now: int, until: int) -> bool:
        """Whether nothing was told of a soft limit in its window yet, which ends ``until``: it is told now."""
        if now < self.warned.get(quota, 0):
            return False
        self.warned[quota] = until
        return True

    def used_of(self, quota: str, now: float, at: int) -> tuple[int | Decimal, int | Decimal]:
        """What is used of a quota, and its soft limit; ``at`` as in `windows`."""
        for name, limit in self.limits.requests:
            if name == quota and limit.soft is not None:
                window = {"requests_per_minute": self.minute, "requests_per_hour": self.hour}.get(name)
                return (limit.soft + 1 if window is None else window.count(now)), limit.soft
        day, month = self.windows(at)
        for total in self.limits.totals:
            if total.name == quota and total.soft is not None:
                return total.of(month if total.monthly else day)[0], total.soft
        return 0, 0
