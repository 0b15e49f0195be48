"""Security 7: a webhook believes nobody but its platform. Telegram's proof is a secret in a header."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from carrel.http.services import Limits
from carrel.ids import TenantId
from tests.fakes.channels import PROOF, shared, telegram
from tests.fakes.edge import Edge, running_edge
from tests.fakes.patience import eventually
from tests.fakes.telegram import TOKEN, BotApi, running_bot_api

HEADER = "X-Telegram-Bot-Api-Secret-Token"
HELLO = {
    "update_id": 1,
    "message": {"message_id": 1, "from": {"id": 42}, "chat": {"id": 42, "type": "private"}, "text": "hello"},
}


@pytest.fixture
def api() -> Iterator[BotApi]:
    with running_bot_api() as running:
        running.chats.add(42)
        yield running


@pytest.fixture
async def edge(tmp_path: Path, api: BotApi) -> AsyncIterator[Edge]:
    """``acme`` has a webhook and a channel that polls; ``bravo`` has none that is connected."""
    async with running_edge(tmp_path, limits=Limits(failed_attempts=10_000)) as running:
        running.configure(channels=shared(api))
        hooked, polled = telegram(delivery="webhook", dm_policy="open"), telegram(token="OTHER")
        current = running.directory.current
        for name, channels in (("acme", {"hooked": hooked, "polled": polled}), ("bravo", {"polled": polled})):
            tenant = current.tenants[TenantId(name)]
            running.publish(replace(tenant, config=tenant.config.model_copy(update={"channels": channels})))
        engines = running.services.engines
        assert engines is not None
        await eventually(lambda: [r for r in engines.channels._running.values() if r.account.proof is not None])
        yield running


async def call(edge: Edge, path: str, headers: Any, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    data = json.dumps(HELLO).encode() if body is None else body
    async with (
        aiohttp.ClientSession() as client,
        client.post(edge.url + path, data=data, headers=headers) as reply,
    ):
        told = await reply.json()
        told.pop("request_id", None)
        return reply.status, told


async def test_S7_one_flipped_byte_is_401_and_the_right_one_is_let_in(edge: Edge, api: BotApi) -> None:
    for index in range(len(PROOF)):
        flipped = PROOF[:index] + chr(ord(PROOF[index]) ^ 1) + PROOF[index + 1 :]
        assert (await call(edge, "/hooks/acme/hooked", {HEADER: flipped}))[0] == 401
    for wrong in (
        {},
        {HEADER: ""},
        {HEADER: PROOF + "x"},
        [(HEADER, PROOF), (HEADER, PROOF)],
        {"Authorization": PROOF},
    ):
        assert (await call(edge, "/hooks/acme/hooked", wrong))[0] == 401
    assert edge.agents.turns == []
    assert await call(edge, "/hooks/acme/hooked", {HEADER: PROOF}) == (200, {"ok": True})
    await eventually(lambda: api.texts() == ["You said: hello"])


async def test_S7_nothing_is_parsed_before_it_is_proved(edge: Edge) -> None:
    refused = await call(edge, "/hooks/acme/hooked", {HEADER: "wrong"}, b"no json")
    assert refused[0] == 401
    assert (await call(edge, "/hooks/acme/hooked", {HEADER: PROOF}, b"no json"))[0] == 400


async def test_S7_what_there_is_and_what_there_is_not_are_refused_alike(edge: Edge) -> None:
    answers = [
        await call(edge, path, {HEADER: secret})
        for path, secret in (
            ("/hooks/acme/hooked", "wrong"), ("/hooks/acme/polled", "wrong"), ("/hooks/acme/none", "wrong"),
            ("/hooks/nobody/hooked", "wrong"), ("/hooks/ACME/hooked", "wrong"),
            # A's proof on B's route, on another channel of A's, and where no secret is set.
            ("/hooks/bravo/hooked", PROOF), ("/hooks/bravo/polled", PROOF), ("/hooks/acme/polled", PROOF),
            ("/hooks/acme/polled", ""),
        )
    ]  # fmt: skip
    assert {json.dumps(answer) for answer in answers} == {json.dumps(answers[0])}
    assert answers[0][0] == 401


async def test_S7_a_suspended_tenant_s_webhook_is_nobody_s(edge: Edge) -> None:
    tenant = edge.directory.current.tenants[TenantId("acme")]
    edge.publish(replace(tenant, suspended=True))
    engines = edge.services.engines
    assert engines is not None
    await eventually(lambda: not [key for key in engines.channels._running if key[0] == "acme"])
    assert (await call(edge, "/hooks/acme/hooked", {HEADER: PROOF}))[0] == 401
    edge.publish(replace(tenant, suspended=False))
    await eventually(lambda: [r for r in engines.channels._running.values() if r.account.proof is not None])
    assert (await call(edge, "/hooks/acme/hooked", {HEADER: PROOF}))[0] == 200


async def test_S7_a_call_that_is_repeated_is_answered_once(edge: Edge, api: BotApi) -> None:
    answers = await asyncio.gather(*(call(edge, "/hooks/acme/hooked", {HEADER: PROOF}) for _ in range(8)))
    assert {status for status, _ in answers} == {200}
    await eventually(lambda: api.texts() == ["You said: hello"])
    assert len(edge.agents.turns) == 1


async def test_S5_03_a_bot_s_token_is_in_no_answer_log_event_or_audit_line(
    edge: Edge, api: BotApi, capfd: pytest.CaptureFixture[str]
) -> None:
    api.refuse("sendMessage", 403, f"Forbidden: {TOKEN}")
    await call(edge, "/hooks/acme/hooked", {HEADER: PROOF})
    engines = edge.services.engines
    assert engines is not None
    tenant = edge.directory.current.tenants[TenantId("acme")]
    edge.configure(channels=edge.directory.current.gateway.channels.model_copy(
        update={"telegram": type(shared(api).telegram)(base_url="http://127.0.0.1:9")}
    ))  # fmt: skip
    await eventually(lambda: [
        r for r in engines.channels._running.values() if "could not be asked" in str(r.account.error)
    ])  # fmt: skip
    told = str(await engines.channels.status(tenant, probe=True))
    wrote = capfd.readouterr()
    for place in (told, wrote.out, wrote.err):
        assert TOKEN not in place
        assert TOKEN.partition(":")[2] not in place
        assert PROOF not in place
    assert "could not be asked" in told
