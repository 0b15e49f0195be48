"""A stream that does not begin is called for once more: with a vendor that is told when to begin, and a real meter."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from carrel.clock import SystemClock
from carrel.declare.base import SecretRef
from carrel.declare.quotas import Quotas
from carrel.declare.tenant import TenantProvider
from carrel.errors import UpstreamError
from carrel.ids import RequestId
from carrel.providers.guard import Guard
from carrel.relay.collected import Collected
from carrel.relay.dialects.chat import ChatFields
from carrel.relay.guarded import GuardedRelay
from carrel.relay.hedged import HedgedRelay
from carrel.tasks import Tasks
from tests.fakes.patience import eventually, soon
from tests.unit.relay.harness import Bed, bed

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


@dataclass
class Vendor:
    """Each of its calls waits for its own leave; ``status`` is what it is then answered with."""

    url: str = ""
    calls: int = 0
    gone: list[int] = field(default_factory=list)
    leave: dict[int, asyncio.Event] = field(default_factory=dict)
    status: dict[int, int] = field(default_factory=dict)

    def called(self, times: int) -> bool:
        return self.calls == times

    def go(self, number: int) -> asyncio.Event:
        return self.leave.setdefault(number, asyncio.Event())

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = json.loads(await request.read())
        number, self.calls = self.calls, self.calls + 1
        try:
            await self.go(number).wait()
        except asyncio.CancelledError:
            self.gone.append(number)
            raise
        if self.status.get(number):
            return web.json_response({"error": {"message": "no"}}, status=self.status[number])
        text = f"by call {number}"
        if not asked.get("stream"):
            return web.json_response({"choices": [{"message": {"content": text}}], "usage": USAGE})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in (
            {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]},
            {"choices": [], "usage": USAGE},
        ):
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response


@asynccontextmanager
async def serving() -> AsyncIterator[Vendor]:
    vendor = Vendor()
    server = web.Server(vendor.answer, handler_cancellation=True)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    vendor.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    try:
        yield vendor
    finally:
        listener.close()
        await server.shutdown(1)


@dataclass
class Rig:
    bed: Bed
    vendor: Vendor
    relay: HedgedRelay

    def ask(self, *, stream: bool = True) -> "tuple[asyncio.Task[Any], Collected]":
        messages = [{"role": "user", "content": "hello " * 20}]
        body = json.dumps({"model": "scripted", "messages": messages, "max_tokens": 50, "stream": stream}).encode()
        caller = Collected()
        work = self.relay.pass_on(
            caller, self.bed.tenant, self.bed.snapshot, RequestId("req_1"), body, fields=ChatFields.read(body)
        )  # fmt: skip
        return asyncio.ensure_future(work), caller

    async def outcomes(self) -> list[tuple[str, bool, int]]:
        return sorted((row.outcome, row.estimated, row.output_tokens) for row in await self.bed.rows())


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def rig(*, after: int = 1, **more: Any) -> AsyncIterator[Rig]:
        provider = {"hedge_after_ms": after, "max_retries": 0, **more.pop("provider", {})}
        tasks, guard = Tasks("hedges"), Guard(SystemClock())
        async with serving() as vendor, bed(tmp_path, vendor.url, provider=provider, **more) as made:
            yield Rig(made, vendor, HedgedRelay(GuardedRelay(made.relay, guard), guard, tasks))
        assert not len(tasks)
        await tasks.close()

    return rig


async def test_the_second_answers_and_both_are_in_the_ledger(make: Callable[..., Any]) -> None:
    async with make() as rig:
        task, caller = rig.ask()
        await eventually(lambda: rig.vendor.calls == 2)
        rig.vendor.go(1).set()
        assert (await soon(task)).status == 200
        assert b"by call 1" in caller.body
        assert b"by call 0" not in caller.body
        await eventually(lambda: rig.vendor.gone == [0])
        assert await rig.outcomes() == [("cancelled", True, 0), ("ok", False, 3)]
        rows = await rig.bed.rows()
        assert {row.request_id for row in rows} == {"req_1"}
        assert min(row.cost_usd for row in rows) > 0, "the prompt of the one that lost was sent, and is in the bill"


async def test_the_first_answers_after_all(make: Callable[..., Any]) -> None:
    async with make() as rig:
        task, caller = rig.ask()
        await eventually(lambda: rig.vendor.calls == 2)
        rig.vendor.go(0).set()
        await soon(task)
        assert b"by call 0" in caller.body
        assert await rig.outcomes() == [("cancelled", True, 0), ("ok", False, 3)]


async def test_one_that_fails_leaves_the_answer_to_the_other(make: Callable[..., Any]) -> None:
    for failing, answering in ((0, 1), (1, 0)):
        async with make() as rig:
            rig.vendor.status[failing] = 503
            task, caller = rig.ask()
            await eventually(partial(rig.vendor.called, 2))
            rig.vendor.go(failing).set()
            rows = rig.bed.rows
            while len(await rows()) < 1 + 2 * failing:
                await asyncio.sleep(0.01)
            rig.vendor.go(answering).set()
            await soon(task)
            assert f"by call {answering}".encode() in caller.body


async def test_where_both_fail_nothing_was_said_and_the_first_error_is_told(make: Callable[..., Any]) -> None:
    async with make() as rig:
        rig.vendor.status = {0: 503, 1: 500}
        task, caller = rig.ask()
        await eventually(lambda: rig.vendor.calls == 2)
        rig.vendor.go(1).set()
        rig.vendor.go(0).set()
        with pytest.raises(UpstreamError) as failed:
            await soon(task)
        assert (failed.value.status, caller.body) == (503, b"")
        assert await rig.outcomes() == [("error", False, 0), ("error", False, 0)]


async def test_a_caller_that_goes_away_ends_both(make: Callable[..., Any]) -> None:
    async with make() as rig:
        task, _ = rig.ask()
        await eventually(lambda: rig.vendor.calls == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: sorted(rig.vendor.gone) == [0, 1])
        assert await rig.outcomes() == [("cancelled", True, 0), ("cancelled", True, 0)]


@pytest.mark.parametrize("why", ["off", "whole", "own key", "at its quota", "no place"])
async def test_there_is_no_second_call(make: Callable[..., Any], why: str) -> None:
    own = {"vendor": TenantProvider(api_key=SecretRef(secret="own-key"))}
    known: dict[str, dict[str, Any]] = {
        "off": {"after": 0}, "own key": {"providers": own}, "at its quota": {"quotas": Quotas(tokens_per_day=1500)},
        "no place": {"provider": {"max_connections": 1}},
    }  # fmt: skip
    options = known.get(why, {})
    async with make(**options) as rig:
        task, caller = rig.ask(stream=why != "whole")
        await eventually(lambda: rig.vendor.calls == 1)
        # More than enough for a second call to be made, and nothing that a slow machine could turn into a failure.
        await asyncio.sleep(0.1)
        rig.vendor.go(0).set()
        await soon(task)
        assert b"by call 0" in caller.body
        assert (rig.vendor.calls, await rig.outcomes()) == (1, [("ok", False, 3)])
