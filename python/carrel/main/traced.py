"""The rooms whose work is traced: each call of a model from its hold to its row, each command in a sandbox."""

import asyncio
from collections.abc import Callable
from typing import Any

from carrel import __version__
from carrel.declare.rate_card import TokenCounts
from carrel.errors import CarrelError
from carrel.metering.protocol import Call, Outcome
from carrel.metering.service import HeldCall, Metering
from carrel.reconcile.reconciler import Listener
from carrel.reconcile.status import Applied
from carrel.sandbox.protocol import Job
from carrel.sandbox.protocol import Outcome as Ending
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.tracing import Span, Traces


def traced(traces: Traces) -> Listener:
    """What has ``traces`` follow what is declared."""

    async def follow(applied: Applied) -> None:
        declared = applied.snapshot.gateway.traces
        await asyncio.to_thread(traces.follow, declared.endpoint, sample=declared.sample, version=__version__)

    return follow


class TracedMetering(Metering):
    """A meter that makes a span of each call that it lets through."""

    def __init__(self, *, traces: Traces, **rest: Any) -> None:
        super().__init__(**rest)
        self._traces = traces
        self._spans: dict[str, Span] = {}

    async def reserve(self, tenant: Tenant, snapshot: Snapshot, call: Call) -> HeldCall:
        """See `Metering.reserve`."""
        if not self._traces.on:
            return await super().reserve(tenant, snapshot, call)
        span = self._traces.begin("model.call", tenant=tenant.id, model=call.model, request_id=call.request_id)
        try:
            held = await super().reserve(tenant, snapshot, call)
        except CarrelError as error:
            span.end(error=error.code)
            raise
        self._spans[held.id] = span
        return held

    def settle(self, call: HeldCall, usage: TokenCounts, *, outcome: Outcome, **rest: Any) -> Any:
        """See `Metering.settle`."""
        span = self._spans.pop(call.id, None)
        if span is not None:
            error = None if outcome == "ok" else outcome
            span.end(error=error, outcome=outcome, input_tokens=usage.prompt, output_tokens=usage.output)
        return super().settle(call, usage, outcome=outcome, **rest)


class TracedSandbox(BwrapSandbox):
    """A sandbox that makes a span of each command."""

    def __init__(self, *, traces: Traces, **rest: Any) -> None:
        super().__init__(**rest)
        self._traces = traces

    async def run(
        self, tenant: Tenant, job: Job, *, on_output: Callable[[bytes], None] | None = None
    ) -> Ending:  # fmt: skip
        """See ``Sandbox.run``."""
        span = self._traces.begin("sandbox.run", tenant=tenant.id, mode=job.confinement.mode)
        error: str | None = "cancelled"
        try:
            outcome = await super().run(tenant, job, on_output=on_output)
            error = outcome.killed
            span.set(exit_code=-1 if outcome.exit_code is None else outcome.exit_code)
        except CarrelError as failure:
            error = failure.code
            raise
        finally:
            span.end(error=error)
        return outcome
