"""The engine against a Bot API server on a socket."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from carrel.channels.inbound import Chat
from carrel.channels.protocol import ChannelError, Hook, Identity
from carrel.channels.telegram import Telegram, TelegramLink
from carrel.declare.channels import ChannelsConfig, TelegramPlatform
from carrel.errors import InvalidRequest
from carrel.secrets import Secret
from tests.fakes.telegram import BOT_ID, TOKEN, BotApi, running_bot_api

DIRECT = Chat(id="42", kind="direct")


@pytest.fixture
def api() -> Iterator[BotApi]:
    with running_bot_api() as running:
        yield running


@pytest.fixture
async def platform() -> AsyncIterator[Telegram]:
    made = Telegram(poll_seconds=1)
    yield made
    await made.close()


def linked(platform: Telegram, base_url: str, token: str = TOKEN) -> TelegramLink:
    return platform.link(ChannelsConfig(telegram=TelegramPlatform(base_url=base_url)), Secret(token))


async def test_it_knows_itself_and_takes_the_webhook_back(api: BotApi, platform: Telegram) -> None:
    link = linked(platform, api.base_url)
    assert await link.connect(Hook("https://x.example/hooks/acme/t", Secret("proof"))) == Identity(
        str(BOT_ID), api.username
    )
    assert (api.webhook["url"], api.webhook["secret_token"]) == ("https://x.example/hooks/acme/t", "proof")
    await link.connect(None)
    assert not api.webhook


async def test_it_asks_from_where_it_stopped_and_an_empty_while_is_none(api: BotApi, platform: Telegram) -> None:
    link = linked(platform, api.base_url)
    await link.connect(None)
    assert (await link.receive(None)).following is None
    first, second = api.say("one"), api.say("two")
    found = await link.receive(None)
    assert ([one.text for one in found.messages], found.following) == (["one", "two"], second + 1)
    assert [one.text for one in (await link.receive(first + 1)).messages] == ["two"]
    assert api.calls[-1][1]["allowed_updates"] == ["message"]


async def test_it_says_and_types_where_it_was_spoken_to(api: BotApi, platform: Telegram) -> None:
    link = linked(platform, api.base_url)
    api.say("hi")
    api.say("hi", chat=-7)
    await link.typing(DIRECT)
    await link.send(DIRECT, "hello", answers="1")
    await link.send(Chat(id="-7", kind="group", thread="3"), "hello", answers="2")
    told = [one["params"] for one in api.sent]
    assert told[0] == {"chat_id": 42, "text": "hello"}
    assert (told[1]["message_thread_id"], told[1]["reply_parameters"]["message_id"]) == (3, 2)


@pytest.mark.parametrize(
    ("refusal", "retryable", "wait"),
    [
        ((429, "Too Many Requests: retry after 7", {"retry_after": 7}), True, 7.0),
        ((401, "Unauthorized", {}), False, None),
        ((409, "Conflict: terminated by other getUpdates request", {}), True, None),
        ((403, "Forbidden: bot was blocked by the user", {}), False, None),
        ((502, "Bad Gateway", {}), True, None),
    ],
)
async def test_what_it_is_refused(
    api: BotApi, platform: Telegram, refusal: tuple[int, str, dict[str, int]], retryable: bool, wait: float | None
) -> None:
    api.say("hi")
    code, said, more = refusal
    api.refuse("sendMessage", code, f"{said} {TOKEN}", **more)
    with pytest.raises(ChannelError) as caught:
        await linked(platform, api.base_url).send(DIRECT, "hello")
    assert (caught.value.retryable, caught.value.retry_after) == (retryable, wait)
    assert TOKEN not in str(caught.value)


async def test_nothing_that_is_raised_has_the_token_or_its_address_in_it(platform: Telegram) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    for answering in (close, other, None):
        server = await asyncio.start_server(answering or close, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        if answering is None:
            server.close()
        with pytest.raises(ChannelError) as caught:
            await linked(platform, url).identify()
        chain: BaseException | None = caught.value
        assert chain is not None
        assert chain.__suppress_context__
        assert "AAF0" not in str(chain) + repr(chain.__cause__)
        assert caught.value.retryable
        server.close()
        await server.wait_closed()


async def test_its_connections_bring_their_own_trust(platform: Telegram) -> None:
    one, other = await asyncio.gather(platform._session(), platform._session())
    assert one is other
    assert isinstance(one.connector, aiohttp.TCPConnector)
    assert isinstance(one.connector._ssl, ssl.SSLContext)
    assert one.connector._ssl.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    "token", ["", "x", "1:../../x" + "y" * 30, "12:" + "A" * 30 + "/getMe", "12:" + "A" * 30 + "\n"]
)
def test_what_is_no_token_is_not_put_into_an_address(token: str) -> None:
    with pytest.raises(ChannelError, match="no bot token"):
        linked(Telegram(), "http://127.0.0.1:9", token)


def test_a_webhook_s_body_and_its_proof() -> None:
    link = linked(Telegram(), "http://127.0.0.1:9")
    good = {"update_id": 5, "message": {"message_id": 1, "from": {"id": 42}, "chat": {"id": 42, "type": "private"}}}
    assert link.read(json.dumps(good).encode()).following == 6
    for body in (b"", b"[]", b"{}", b"{" * 50_000, b'{"update_id": "5"}'):
        with pytest.raises(InvalidRequest):
            link.read(body)
    proof = link.proof(Secret("right"))
    name = "x-telegram-bot-api-secret-token"
    assert proof({name: ["right"]}, b"")
    wrongs: tuple[dict[str, list[str]], ...] = (
        {},
        {name: []},
        {name: [""]},
        {name: ["righT"]},
        {name: ["right", "right"]},
        {"other": ["right"]},
    )
    for wrong in wrongs:
        assert not proof(wrong, b"")
    for secret in ("", "with space", "x" * 257):
        with pytest.raises(ChannelError):
            link.proof(Secret(secret))
