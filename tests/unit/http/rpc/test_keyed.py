"""Idempotency keys over a real `/rpc`."""

import asyncio
from typing import Any

import aiohttp

from tests.fakes.edge import Edge, bearer, token_of
from tests.unit.http.rpc.conftest import Rpc


async def test_a_repeated_call_gets_the_first_ones_answer(edge: Edge, rpc: Rpc) -> None:
    call = {"message": "hello", "idempotencyKey": "k1"}
    first, second = await rpc("sessions.send", call), await rpc("sessions.send", call)
    assert first == second
    assert len(edge.agents.turns) == 1
    assert (await rpc("sessions.send", {**call, "idempotencyKey": "k2"}))["sessionId"] != first["sessionId"]


async def test_a_call_that_runs_is_waited_for(edge: Edge, rpc: Rpc) -> None:
    call = {"message": "wait: 0.05", "idempotencyKey": "k"}
    first, second = await asyncio.gather(rpc("sessions.send", call), rpc("sessions.send", call))
    assert first == second
    assert len(edge.agents.turns) == 1


async def test_a_key_is_for_one_call_and_one_tenant(rpc: Rpc) -> None:
    await rpc("sessions.create", {"sessionId": "a", "idempotencyKey": "k"})
    error = await rpc("sessions.create", {"sessionId": "b", "idempotencyKey": "k"})
    assert error["data"]["code"] == "idempotency_key_reused"
    assert (await rpc("sessions.create", {"sessionId": "b", "idempotencyKey": "k"}, tenant="bravo"))["key"] == "b"


async def test_a_refusal_is_not_kept(rpc: Rpc) -> None:
    await rpc("sessions.create", {"sessionId": "a"})
    call = {"sessionId": "a", "idempotencyKey": "k"}
    assert (await rpc("sessions.create", call))["data"]["code"] == "conflict"
    await rpc("sessions.delete", {"sessionId": "a"})
    assert (await rpc("sessions.create", call))["key"] == "a"


async def test_what_a_dead_gateway_began_is_done_under_the_same_ids(edge: Edge, rpc: Rpc) -> None:
    keyed: Any = edge.services.keyed

    async def died(*_: object) -> None:
        """The gateway dies after the session was made and before that is noted."""

    keyed._store.finish = died
    for method, call in (
        ("sessions.create", {"label": "x", "idempotencyKey": "k1"}),
        ("sessions.delete", {"sessionId": "s", "idempotencyKey": "k2"}),
    ):
        await rpc("sessions.create", {"sessionId": "s"})
        first, second = await rpc(method, call), await rpc(method, call)
        assert first == second
        assert "data" not in first
    sent = [await rpc("sessions.send", {"message": "hello", "idempotencyKey": "k3"}) for _ in range(2)]
    assert sent[0] == sent[1]
    assert [turn.again for turn in edge.agents.turns] == [False, True]


async def test_an_answer_with_a_token_is_shown_once(rpc: Rpc) -> None:
    assert "token" in await rpc("tenants.rotate", {"idempotencyKey": "k"})
    assert (await rpc("tenants.rotate", {"idempotencyKey": "k"}))["data"]["code"] == "conflict"


async def test_the_header_is_for_a_single_call(edge: Edge, client: aiohttp.ClientSession) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "sessions.create", "params": {}}
    headers = {**bearer(token_of("acme")), "Idempotency-Key": "h"}
    ids = set()
    for _ in range(2):
        async with client.post(edge.url + "/rpc", json=call, headers=headers) as reply:
            ids.add((await reply.json())["result"]["key"])
    assert len(ids) == 1
    async with client.post(edge.url + "/rpc", json=[call], headers=headers) as reply:
        assert reply.status == 400


async def test_a_key_that_is_none_is_refused(rpc: Rpc) -> None:
    for key in ("", "x" * 200, 7, "a\nb"):
        assert (await rpc("sessions.create", {"idempotencyKey": key}))["data"]["path"] == "idempotencyKey"
    assert "idempotencyKey" in (await rpc("sessions.list", {"idempotencyKey": "k"}))["message"]
