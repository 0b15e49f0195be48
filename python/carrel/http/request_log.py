"""The one line that every request leaves in the log, and its place in the metrics."""

import structlog

from carrel.clock import Clock
from carrel.http.live import Live
from carrel.ids import TenantId
from carrel.telemetry import Metrics

_log = structlog.get_logger(__name__)


class RequestLog:
    """Says of each request whose it was, what became of it, and how long it took."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        # Bound once: a logger that looks its configuration up for every line costs more than the line.
        self._log = _log.bind()

    def write(self, live: Live, *, tenant: TenantId | None, method: str, route: str, status: int) -> None:
        """Note the end of the request ``live``. ``status`` is 499 where its caller went away before there was one."""
        seconds = self._clock.monotonic() - live.began
        self._metrics.request(tenant, route=route, status=status, seconds=seconds)
        self._log.info(
            "request",
            tenant=tenant or "-",
            request_id=live.request_id,
            method=method,
            route=route,
            status=status,
            ms=round(seconds * 1000, 2),
            credential=live.caller.label if live.caller is not None else "-",
            **({"ended": live.ended} if live.ended else {}),
        )
