"""The one line that every request leaves in the log, and its place in the metrics."""

from carrel.clock import Clock
from carrel.http.live import Live
from carrel.ids import TenantId
from carrel.telemetry import LineLog, Metrics, quoted


class RequestLog:
    """Says of each request whose it was, what became of it, and how long it took."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._line = LineLog(__name__, "request")

    def write(self, live: Live, *, tenant: TenantId | None, method: str, route: str, status: int) -> None:
        """Note the end of the request ``live``. ``status`` is 499 where its caller went away before there was one."""
        seconds = self._clock.monotonic() - live.began
        self._metrics.request(tenant, route=route, status=status, seconds=seconds)
        ms = round(seconds * 1000, 2)
        credential = live.caller.label if live.caller is not None else "-"
        line = self._line
        if line.plain:
            # An id is of a pattern, a route and a reason are our own words; the rest somebody else may choose.
            ended = f" ended={live.ended}" if live.ended else ""
            line.write(
                f" tenant={tenant or '-'} request_id={live.request_id} route={route} status={status} ms={ms}{ended}"
                f" method={quoted(method)} credential={quoted(credential)}"
            )
            return
        fields: dict[str, str | float] = {"ended": live.ended} if live.ended else {}
        line.info(
            tenant=tenant or "-", request_id=live.request_id, route=route, status=status, ms=ms, **fields,
            method=method, credential=credential,
        )  # fmt: skip
