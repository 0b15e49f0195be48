"""Where messaging platforms call."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from carrel.channels import book
from carrel.http import hooks
from carrel.http.services import Limits
from tests.fakes.channels import PROOF, shared, telegram
from tests.fakes.edge import Edge, running_edge
from tests.fakes.patience import eventually
from tests.fakes.telegram import BotApi, running_bot_api
from tests.fakes.tenants import make_tenant

HEADER = "X-Telegram-Bot-Api-Secret-Token"


@pytest.fixture
def api() -> Iterator[BotApi]:
    with running_bot_api() as running:
        yield running


async def hooked(edge: Edge, api: BotApi) -> None:
    """``acme`` has a webhook from here on."""
    edge.configure(channels=shared(api))
    acme = edge.directory.current.tenants["acme"]  # type: ignore[index] # a literal id
    channels = {"telegram": telegram(delivery="webhook", dm_policy="open")}
    edge.publish(type(acme)(acme.id, acme.config.model_copy(update={"channels": channels}), acme.revision, acme.root))
    await eventually(lambda: api.webhook)
    engines = edge.services.engines
    assert engines is not None
    await eventually(lambda: [one for one in engines.channels._running.values() if one.account.proof is not None])


async def called(
    client: aiohttp.ClientSession, edge: Edge, body: Any, *, proof: str = PROOF, path: str = "/hooks/acme/telegram"
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client.post(edge.url + path, data=data, headers={HEADER: proof}) as reply:
        return reply.status, await reply.json()


async def announced(edge: Edge, size: int) -> bytes:
    """The first line of the answer to a body that is only announced."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
    head = f"POST /hooks/acme/telegram HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n\r\n"
    writer.write(head.encode())
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line


def update(number: int, text: str = "hello", sender: int = 42) -> dict[str, Any]:
    chat = {"id": sender, "type": "private"}
    return {"update_id": number, "message": {"message_id": 1, "from": {"id": sender}, "chat": chat, "text": text}}


async def test_a_call_is_answered_once_however_often_it_comes(
    tmp_path: Path, client: aiohttp.ClientSession, api: BotApi
) -> None:
    async with running_edge(tmp_path, tenants=[make_tenant(tmp_path, "acme")]) as edge:
        await hooked(edge, api)
        api.chats.add(42)
        for _ in range(3):
            assert await called(client, edge, update(7)) == (200, {"ok": True})
        await eventually(lambda: api.texts() == ["You said: hello"])
        assert await called(client, edge, {"update_id": 8, "edited_message": {}}) == (200, {"ok": True})
        assert (await called(client, edge, b"no json"))[0] == 400
        assert await announced(edge, hooks.MAX_BODY + 1) == b"HTTP/1.1 413 Request Entity Too Large\r\n"
        assert api.texts() == ["You said: hello"]


async def test_guesses_are_limited_by_address_and_the_platform_is_not(
    tmp_path: Path, client: aiohttp.ClientSession, api: BotApi
) -> None:
    limits = Limits(failed_attempts=2)
    async with running_edge(tmp_path, limits=limits, tenants=[make_tenant(tmp_path, "acme")]) as edge:
        await hooked(edge, api)
        statuses = [(await called(client, edge, update(1), proof="guess"))[0] for _ in range(3)]
        assert statuses == [401, 401, 429]
        assert (await called(client, edge, update(1)))[0] == 200


async def test_where_too_much_waits_the_platform_is_told_to_come_again(
    tmp_path: Path, client: aiohttp.ClientSession, api: BotApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "MOST_WAITING", 0)
    async with running_edge(tmp_path, tenants=[make_tenant(tmp_path, "acme")]) as edge:
        await hooked(edge, api)
        status, told = await called(client, edge, update(1))
        assert (status, told["code"]) == (429, "rate_limited")
