from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carrel.declare.quotas import Quotas
from carrel.declare.rate_card import TokenCounts
from carrel.errors import QuotaExceeded, SandboxUnavailable
from carrel.ids import RequestId
from carrel.main.traced import TracedMetering, TracedSandbox
from carrel.metering.protocol import Call
from carrel.sandbox.runner import BwrapSandbox
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tracing import Traces
from tests.fakes.clock import FakeClock
from tests.fakes.otlp import attributes, receiving
from tests.fakes.tenants import make_snapshot, make_tenant


async def test_a_call_is_a_span_from_its_hold_to_its_row(tmp_path: Path) -> None:
    traces, tasks = Traces(), Tasks("test")
    tenant = make_tenant(tmp_path, quotas=Quotas(tokens_per_day=500))
    snapshot = make_snapshot(tenant)
    meter = TracedMetering(traces=traces, state_dir=tmp_path, clock=FakeClock(), tasks=tasks, metrics=Metrics())
    await meter.start()
    with receiving() as receiver:
        traces.follow(receiver.endpoint)
        with traces.request("request"):
            held = await meter.reserve(tenant, snapshot, Call(RequestId("r1"), "demo", 100, 100))
            with pytest.raises(QuotaExceeded):
                await meter.reserve(tenant, snapshot, Call(RequestId("r2"), "demo", 9999, 9999))
            await held.settle(TokenCounts(input=10, output=20), outcome="ok")
        traces.close()
        spans = receiver.spans()
    calls = {attributes(span)["carrel.request_id"]: span for span in spans if span.name == "model.call"}
    assert attributes(calls["r1"])["carrel.output_tokens"] == 20
    assert calls["r2"].status.message == "quota_exceeded"
    [request] = [span for span in spans if span.name == "request"]
    assert {span.parent_span_id for span in calls.values()} == {request.span_id}
    held = await meter.reserve(tenant, snapshot, Call(RequestId("r3"), "demo", 10, 10))
    await held.settle(TokenCounts(), outcome="error")
    await tasks.close()
    await meter.close()
    tenant.root.close()


async def test_a_command_is_a_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[Any] = [SimpleNamespace(killed=None, exit_code=3), SandboxUnavailable("no")]

    async def run(self: BwrapSandbox, tenant: Any, job: Any, *, on_output: Any = None) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(BwrapSandbox, "run", run)
    traces, tenant = Traces(), make_tenant(tmp_path)
    sandbox = TracedSandbox(traces=traces)
    job: Any = SimpleNamespace(confinement=SimpleNamespace(mode="bwrap"))
    with receiving() as receiver:
        traces.follow(receiver.endpoint)
        await sandbox.run(tenant, job)
        with pytest.raises(SandboxUnavailable):
            await sandbox.run(tenant, job)
        traces.close()
        first, second = receiver.spans()
    assert attributes(first) == {"carrel.tenant": "acme", "carrel.mode": "bwrap", "carrel.exit_code": 3}
    assert second.status.message == "sandbox_unavailable"
    await sandbox.close()
    tenant.root.close()
