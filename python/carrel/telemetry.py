"""Logs and metrics. What concerns a tenant demands one: there is no tenant label to forget."""

import asyncio
import logging
import re
import sys
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import accumulate
from typing import Final, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from carrel.ids import TenantId
from carrel.secrets import masked
from carrel.tasks import counted


def configure_logging(*, level: str = "info", json: bool = False, stream: TextIO | None = None) -> None:
    """Send structured logs to ``stream`` (standard error by default), one line each, control characters escaped."""
    out = stream or sys.stderr
    processors: list[structlog.types.Processor] = (
        [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            escape_controls,
            structlog.processors.JSONRenderer(),
        ]
        if json
        else [structlog.processors.format_exc_info, logfmt]
    )
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=_Lines(out),
        cache_logger_on_first_use=False,
    )


class _Lines:
    """Writes log lines, each in one piece: printing them would write their ends apart."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._waiting: deque[str] = deque()
        self._due = False

    def __call__(self, *_: object) -> "_Lines":
        return self

    def msg(self, line: str) -> None:
        """Write ``line``, behind those that wait."""
        self._waiting.append(line)
        self._write()

    debug = info = warning = error = critical = exception = msg

    def soon(self, line: str) -> None:
        """Write ``line`` once the event loop has done what is ready now: the lines of many requests in one piece."""
        self._waiting.append(line)
        if not self._due:
            try:
                asyncio.get_running_loop().call_soon(self._write_due)
                self._due = True
            except RuntimeError:
                self._write()

    def _write_due(self) -> None:
        self._due = False
        self._write()

    def _write(self) -> None:
        with self._lock:
            lines: list[str] = []
            while self._waiting:
                lines += (self._waiting.popleft(), "\n")
            if lines:
                self._out.write("".join(lines))
                self._out.flush()


_PLAIN = re.compile(r"[^\s\"=\\]+")
_BARE = re.compile(r"[A-Za-z0-9/_.:@+*-]+")
"""What is a value as it stands, with nothing to escape or to quote."""
_UNSAFE = dict.fromkeys(
    [
        *range(0x20),
        0x7F,
        *range(0x80, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        0x200E,
        0x200F,
        0x061C,
    ]
)


def escape_text(text: str) -> str:
    """``text`` with control, ESC and bidirectional-override characters written as \\xNN or \\uNNNN."""
    if text.isprintable() and text.isascii():
        return text
    return "".join(
        (f"\\x{ord(c):02x}" if ord(c) < 0x100 else f"\\u{ord(c):04x}") if ord(c) in _UNSAFE else c for c in text
    )


def escape_controls(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """A structlog processor that lets no value move a cursor, break a line or show a token."""
    return {k: escape_text(masked(v)) if isinstance(v, str) else v for k, v in event.items()}


def logfmt(_: object, level: str, event: structlog.types.EventDict) -> str:
    """A structlog processor that writes a line as logfmt, in one pass: every request writes one."""
    head = f"timestamp={_moment()} level={level} event={_logfmt_value(event.pop('event', ''))}"
    tenant = event.pop("tenant", None)
    if tenant is not None:
        head += f" tenant={_logfmt_value(tenant)}"
    return head + "".join([f" {name}={_logfmt_value(value)}" for name, value in event.items() if value is not None])


def _moment() -> str:
    second, part = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second(second)}.{part // 1000:06d}Z"


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:-6]


def _logfmt_value(value: object) -> str:
    if type(value) is str and _BARE.fullmatch(value) is not None:
        return masked(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    text = escape_text(masked(value if isinstance(value, str) else str(value)))
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class LineLog:
    """One kind of line that is written very often: as the logger would write it, without most of its steps."""

    def __init__(self, name: str, event: str) -> None:
        # Bound once: a logger that looks its configuration up for every line costs more than the line.
        self._log = structlog.get_logger(name).bind()
        self._event = event
        config = structlog.get_config()
        self._processors = config["processors"]
        out = config["logger_factory"]
        self._out = out if isinstance(out, _Lines) else None
        self._written = self._log.is_enabled_for(logging.INFO)

    @property
    def plain(self) -> bool:
        """Whether `write` is the way, and not `info`: asked each time, for who captures logs changes the processors."""
        return self._out is not None and self._processors[-1] is logfmt

    def write(self, text: str) -> None:
        """Write the line that `info` would: ``text`` is its fields, each with a space in front, values quoted."""
        if self._out is not None and self._written:
            self._out.soon(f"timestamp={_moment()} level=info event={self._event}{text}")

    def info(self, **fields: str | float) -> None:
        """Write the line by all of the logger's steps."""
        self._log.info(self._event, **fields)


def quoted(text: str) -> str:
    """``text`` as a value of a line: escaped, masked, and between quotation marks where it needs them."""
    return text if text.isalpha() and text.isascii() else _quoted(text[:_QUOTED_LENGTH])


@lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    return _logfmt_value(text)


_QUOTED_LENGTH: Final = 256
_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, float("inf"))
"""Upper bounds of a histogram's buckets, in seconds."""


MOST_TENANTS: Final = 2000
"""So many tenants have time series of their own; those that come later share one, under a name that no tenant has."""
OTHER_TENANTS: Final = "_other"


@dataclass(slots=True)
class _Labels:
    """The labels of tenants: bounded, so that what is scraped is."""

    most: int
    _known: dict[TenantId, str] = field(default_factory=dict)

    def of(self, tenant: TenantId) -> str:
        """The tenant itself, or the name of all that are too many."""
        known = self._known.get(tenant)
        if known is not None:
            return known
        if len(self._known) >= self.most:
            return OTHER_TENANTS
        self._known[tenant] = tenant
        return tenant


@dataclass(slots=True)
class _Times:
    """How long answers took: how many fell into each bucket alone, and all of them together, in seconds."""

    buckets: list[int] = field(default_factory=lambda: [0] * len(_BOUNDS))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(_BOUNDS, seconds)] += 1
        self.total += seconds


@dataclass(eq=False, slots=True)
class _Answers(Collector):
    """Answered requests, counted in plain numbers by the event loop's thread, and made metrics of when asked for."""

    labels: _Labels
    counts: dict[tuple[str, str, int], int] = field(default_factory=dict)
    times: dict[str, _Times] = field(default_factory=dict)

    def add(self, tenant: TenantId | None, route: str, status: int, seconds: float) -> None:
        key = ("-" if tenant is None else self.labels.of(tenant), route, status)
        self.counts[key] = self.counts.get(key, 0) + 1
        times = self.times.get(route)
        if times is None:
            times = self.times[route] = _Times()
        times.add(seconds)

    def collect(self) -> Iterable[CounterMetricFamily | HistogramMetricFamily]:
        counted = CounterMetricFamily(
            "carrel_requests", "Requests by tenant, route and status.", labels=("tenant", "route", "status")
        )
        for (tenant, route, status), count in list(self.counts.items()):
            counted.add_metric((tenant, route, str(status)), count)
        yield counted
        timed = HistogramMetricFamily("carrel_request_seconds", "Time to answer, by route.", labels=("route",))
        for route, times in list(self.times.items()):
            buckets = [(_bound(bound), count) for bound, count in zip(_BOUNDS, accumulate(times.buckets), strict=True)]
            timed.add_metric((route,), buckets, times.total)
        yield timed


def _bound(seconds: float) -> str:
    return "+Inf" if seconds == _BOUNDS[-1] else str(seconds)


Gauges = Mapping[str, Mapping[tuple[str, ...], float]]


class _Read(Collector):
    """Gauges that somebody else keeps."""

    def __init__(self, about: Mapping[str, tuple[str, tuple[str, ...]]], read: Callable[[], Gauges]) -> None:
        self._about = about
        self._read = read

    def describe(self) -> Iterator[Metric]:
        for name, (text, labels) in self._about.items():
            yield GaugeMetricFamily(name, text, labels=labels)

    def collect(self) -> Iterator[Metric]:
        values = self._read()
        for name, (text, labels) in self._about.items():
            family = GaugeMetricFamily(name, text, labels=labels)
            for label, value in values.get(name, {}).items():
                family.add_metric(label, value)
            yield family


_TASKS: Final = {"carrel_tasks": ("Tasks of the event loop, by owner.", ("owner",))}


def _tasks() -> Gauges:
    return {"carrel_tasks": {(owner,): count for owner, count in counted().items()}}


class Metrics:
    """Prometheus metrics of one gateway. One instance, made by the composition root."""

    def __init__(self, *, most_tenants: int = MOST_TENANTS) -> None:
        self.registry = CollectorRegistry()
        self._labels = _Labels(most_tenants)
        self._answers = _Answers(self._labels)
        self.registry.register(self._answers)
        self._tokens = self._counter("carrel_tokens", "Tokens by tenant, model and class.", "tenant", "model", "class")
        self._cost = self._counter("carrel_cost_usd", "Billed US dollars by tenant.", "tenant")
        self._refused = self._counter("carrel_quota_refusals", "Requests refused by a quota.", "tenant", "quota")
        self._warned = self._counter(
            "carrel_quota_warnings", "Soft quotas that were passed, once in each window.", "tenant", "quota"
        )
        self._sandbox = self._counter("carrel_sandbox_runs", "Sandbox runs by tenant and ending.", "tenant", "ending")
        self._turns = self._counter("carrel_turns", "Turns of agents by tenant and ending.", "tenant", "ending")
        self._egress = self._counter(
            "carrel_egress", "Connections and requests out of sandboxes, by tenant and outcome.", "tenant", "outcome"
        )
        self._egress_bytes = self._counter(
            "carrel_egress_bytes", "Bytes out of and into sandboxes, by tenant.", "tenant", "direction"
        )
        self._connections = self._counter(
            "carrel_connections", "What became of connected accounts, by tenant, provider and outcome.",
            "tenant", "provider", "outcome",
        )  # fmt: skip
        self._mcp = self._counter(
            "carrel_mcp_requests", "Requests to MCP servers, by how they ended.", "tenant", "server", "outcome"
        )
        self._channels = self._counter(
            "carrel_channel_messages", "Messages of channels: taken, then answered or unsent.",
            "tenant", "channel", "outcome",
        )  # fmt: skip
        self._websockets = self._gauge("carrel_websockets", "WebSockets that are open, by tenant.", "tenant")
        self._tenants = self._gauge("carrel_tenants", "Tenants by state.", "state")
        self._conditions = self._gauge(
            "carrel_tenant_conditions", "Tenants by condition and its status.", "condition", "status"
        )
        self._drift = self._gauge("carrel_drift", "Differences between the state and what was made, by kind.", "kind")
        self._passes = self._counter("carrel_reconcile_passes", "Passes over what is declared, by outcome.", "outcome")
        self._pass_seconds = self._histogram(
            "carrel_reconcile_seconds", "Time that a pass over what is declared takes."
        )
        self._last_pass = self._gauge("carrel_reconcile_last_pass_timestamp_seconds", "When the last pass ended well.")
        self.read_from(_TASKS, _tasks)
        ProcessCollector(registry=self.registry)

    def read_from(self, about: Mapping[str, tuple[str, tuple[str, ...]]], read: Callable[[], Gauges]) -> None:
        """Gauges that are read when they are asked for: for each its help and labels, and their values at once."""
        self.registry.register(_Read(about, read))

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(name, about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, *labels: str) -> Histogram:
        return Histogram(name, about, labels, registry=self.registry)

    def request(self, tenant: TenantId | None, *, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._answers.add(tenant, route, status, seconds)

    def tokens(self, tenant: TenantId, *, model: str, token_class: str, count: int) -> None:
        """Count tokens of one class."""
        if count:
            self._tokens.labels(self._labels.of(tenant), model, token_class).inc(count)

    def cost(self, tenant: TenantId, usd: float) -> None:
        """Count billed dollars; for graphs only, the ledger is what is exact."""
        self._cost.labels(self._labels.of(tenant)).inc(usd)

    def refused(self, tenant: TenantId, *, quota: str) -> None:
        """Count one refusal."""
        self._refused.labels(self._labels.of(tenant), quota).inc()

    def warned(self, tenant: TenantId, *, quota: str) -> None:
        """Count one soft quota that was passed."""
        self._warned.labels(self._labels.of(tenant), quota).inc()

    def sandbox(self, tenant: TenantId, *, ending: str) -> None:
        """Count one sandbox run by how it ended."""
        self._sandbox.labels(self._labels.of(tenant), ending).inc()

    def turn(self, tenant: TenantId, *, ending: str) -> None:
        """Count one turn of an agent by how it ended: ok, an error's code, or cancelled."""
        self._turns.labels(self._labels.of(tenant), ending).inc()

    def egress(self, tenant: TenantId, *, outcome: str, sent: int = 0, received: int = 0) -> None:
        """Count one connection or request out of a sandbox, and its bytes."""
        self._egress.labels(self._labels.of(tenant), outcome).inc()
        if sent:
            self._egress_bytes.labels(self._labels.of(tenant), "out").inc(sent)
        if received:
            self._egress_bytes.labels(self._labels.of(tenant), "in").inc(received)

    def connection(self, tenant: TenantId, *, provider: str, outcome: str) -> None:
        """Count one step of a connection with a declared provider: `linked`, `renewed`, or an error's code."""
        self._connections.labels(self._labels.of(tenant), provider, outcome).inc()

    def mcp(self, tenant: TenantId, *, server: str, outcome: str) -> None:
        """Count one request to a declared MCP server by how it ended: ok, or an error's code."""
        self._mcp.labels(self._labels.of(tenant), server, outcome).inc()

    def channel_message(self, tenant: TenantId, *, channel: str, outcome: str, count: int = 1) -> None:
        """Count messages of a declared channel by what became of them: `taken`, then `answered` or `unsent`."""
        self._channels.labels(self._labels.of(tenant), channel, outcome).inc(count)

    def websockets(self, tenant: TenantId, more: int) -> None:
        """So many ``more`` are open."""
        self._websockets.labels(self._labels.of(tenant)).inc(more)

    def label(self, tenant: TenantId) -> str:
        """The tenant as labels have it, for who keeps gauges of tenants: see `read_from`."""
        return self._labels.of(tenant)

    def tenants(self, state: str, count: int) -> None:
        """Set how many tenants are in a state."""
        self._tenants.labels(state).set(count)

    def reconciled(self, seconds: float, *, failed: bool, at: datetime) -> None:
        """Count one pass over what is declared, that ended ``at`` a time."""
        self._passes.labels("failed" if failed else "ok").inc()
        self._pass_seconds.observe(seconds)
        if not failed:
            self._last_pass.set(at.timestamp())

    def conditions(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Set how many tenants have each status of each condition."""
        for (condition, status), count in counts.items():
            self._conditions.labels(condition, status).set(count)

    def drift(self, counts: Mapping[str, int]) -> None:
        """Set how many differences there are of each kind."""
        for kind, count in counts.items():
            self._drift.labels(kind).set(count)

    def render(self) -> bytes:
        """The text exposition format."""
        return generate_latest(self.registry)
