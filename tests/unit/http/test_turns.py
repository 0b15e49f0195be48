"""Whose turn it is on the event loop."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from carrel.http import turns
from carrel.http.turns import Turns
from carrel.ids import parse_tenant_id
from tests.fakes.edge import Edge, bearer, token_of

ACME, DEMO = parse_tenant_id("acme"), parse_tenant_id("demo")


async def test_of_a_tenants_calls_one_begins_in_a_round() -> None:
    lines, begun = Turns(), []

    async def call(number: int) -> None:
        await lines.begin(ACME)
        begun.append(number)

    calls = [asyncio.create_task(call(number)) for number in range(40)]
    seen = 0
    while len(begun) < 40:
        await asyncio.sleep(0)
        assert len(begun) <= seen + 1, "between two rounds more than one began"
        seen = len(begun)
    assert begun == list(range(40)), "in the order of coming"
    await asyncio.gather(*calls)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(lines) == 0


async def test_tenants_do_not_wait_for_each_other() -> None:
    lines, begun = Turns(), []

    async def call(tenant: Any, number: int) -> None:
        await lines.begin(tenant)
        begun.append((tenant, number))

    calls = [asyncio.create_task(call(ACME, number)) for number in range(40)]
    await asyncio.sleep(0)
    calls.append(asyncio.create_task(call(DEMO, 0)))
    await asyncio.gather(*calls)
    assert begun.index((DEMO, 0)) <= 3


async def test_who_gives_up_takes_no_turn() -> None:
    lines = Turns()
    await lines.begin(ACME)
    waits = [asyncio.create_task(lines.begin(ACME)) for _ in range(3)]
    await asyncio.sleep(0)
    waits[0].cancel()
    waits[1].cancel()
    await waits[2]
    await asyncio.gather(*waits, return_exceptions=True)


async def test_a_long_turn_is_followed_by_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "LONG_SECONDS", 0.0)
    lines = Turns()
    rests: list[float] = []
    loop = asyncio.get_running_loop()

    def later(after: float, call: Callable[..., Any], *args: Any) -> None:
        rests.append(after)
        loop.call_soon(call, *args)

    monkeypatch.setattr(loop, "call_later", later)

    async def call() -> None:
        await lines.begin(ACME)
        time.sleep(0.002)

    await asyncio.gather(*(call() for _ in range(4)))
    assert len(rests) == 2, "the first of a line is not measured, and nobody waits after the last"
    assert min(rests) >= 0.002


async def test_a_batch_leaves_the_loop_to_others_between_its_calls(edge: Edge, client: aiohttp.ClientSession) -> None:
    batch = [{"jsonrpc": "2.0", "id": number, "method": "health", "params": {}} for number in range(50)]
    over, rounds, began = asyncio.Event(), 0, []
    count = edge.meter.admit_request

    async def counted(tenant: Any) -> None:
        began.append(rounds)
        await count(tenant)

    edge.meter.admit_request = counted  # type: ignore[method-assign] # to see when

    async def others() -> None:
        nonlocal rounds
        while not over.is_set():
            rounds += 1
            await asyncio.sleep(0)

    watching = asyncio.create_task(others())
    async with client.post(edge.url + "/rpc", data=json.dumps(batch), headers=bearer(token_of("acme"))) as reply:
        assert len(await reply.json()) == 50
    over.set()
    await watching
    assert len(set(began)) == 50, "no two of its calls began in one round"
