"""The relay behind the guard: every outcome gives its place back."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from carrel.errors import UpstreamError
from carrel.ids import new_request_id
from carrel.providers.guard import CircuitOpen, Guard
from carrel.relay.answer import Answer
from carrel.relay.dialects.chat import ChatFields
from carrel.relay.guarded import GuardedRelay
from carrel.relay.response import PassesOn
from tests.fakes.clock import FakeClock
from tests.fakes.edge import chat_body, edge_snapshot
from tests.fakes.tenants import make_tenant


class Relay(PassesOn):
    """Does as told."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.calls = 0

    async def pass_on(self, caller: Any, *_: Any, fields: Any, more: bytes = b"") -> Answer:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return Answer(caller, status=200, content_type="x", request_id=new_request_id())


async def test_outcomes_are_noted_and_an_open_circuit_asks_nobody(tmp_path: Path) -> None:
    tenant, relay, guard = make_tenant(tmp_path, "acme"), Relay(), Guard(FakeClock())
    snapshot, guarded = edge_snapshot(tenant), GuardedRelay(relay, guard)
    body = chat_body("hi", model="vendor-large")
    caller: Any = None

    async def call() -> Answer:
        return await guarded.pass_on(
            caller, tenant, snapshot, new_request_id(), body, fields=ChatFields.read(body)
        )  # fmt: skip

    assert (await call()).status == 200
    for error in (UpstreamError("down", status=503), asyncio.CancelledError(), UpstreamError("bad", status=400)):
        relay.error = error
        with pytest.raises(type(error)):
            await call()
        [told] = guard.report()
        assert told.running == 0
    assert told.failures == 1
    relay.error = UpstreamError("down", status=503)
    for _ in range(9):
        with pytest.raises(UpstreamError):
            await call()
    calls = relay.calls
    with pytest.raises(CircuitOpen):
        await call()
    assert relay.calls == calls
