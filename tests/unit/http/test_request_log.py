"""One line and one count for a request."""

import asyncio

from structlog.testing import capture_logs

from carrel.http.auth import OperatorCaller
from carrel.http.live import Live
from carrel.http.request_log import RequestLog
from carrel.ids import RequestId, TenantId
from carrel.telemetry import Metrics
from tests.fakes.clock import FakeClock


async def test_a_line_says_whose_and_what_became_of_it() -> None:
    clock, metrics = FakeClock(), Metrics()
    task = asyncio.ensure_future(asyncio.sleep(0))
    first = Live(task, RequestId("req_1"), clock.monotonic(), caller=OperatorCaller("ops", credential="ak_ops_x"))
    second = Live(task, RequestId("req_2"), clock.monotonic(), ended="revoked")
    with capture_logs() as lines:
        log = RequestLog(clock, metrics)
        clock.advance(0.25)
        log.write(first, tenant=TenantId("acme"), method="POST", route="/r", status=200)
        log.write(second, tenant=None, method="GET", route="/r", status=499)
    await task
    for line in lines:
        line.pop("log_level")
    assert lines == [
        {"event": "request", "tenant": "acme", "request_id": "req_1", "method": "POST", "route": "/r", "status": 200,
         "ms": 250.0, "credential": "ak_ops"},
        {"event": "request", "tenant": "-", "request_id": "req_2", "method": "GET", "route": "/r", "status": 499,
         "ms": 250.0, "credential": "-", "ended": "revoked"},
    ]  # fmt: skip
    assert 'carrel_requests_total{route="/r",status="200",tenant="acme"} 1.0' in metrics.render().decode()
