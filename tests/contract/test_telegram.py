"""The fake Bot API is held to the real one by a client of others', which reads every answer into its own models."""

from collections.abc import AsyncIterator, Iterator

import pytest
from telegram import Bot
from telegram.error import BadRequest, Conflict, InvalidToken, RetryAfter
from telegram.request import HTTPXRequest

from tests.fakes.telegram import BOT_ID, TOKEN, BotApi, running_bot_api


@pytest.fixture
def api() -> Iterator[BotApi]:
    with running_bot_api() as running:
        yield running


@pytest.fixture
async def bot(api: BotApi) -> AsyncIterator[Bot]:
    requests = [HTTPXRequest(httpx_kwargs={"trust_env": False}) for _ in range(2)]
    made = Bot(TOKEN, base_url=f"{api.base_url}/bot", request=requests[0], get_updates_request=requests[1])
    async with made:
        yield made


async def test_who_the_bot_is(bot: Bot, api: BotApi) -> None:
    assert (bot.id, bot.username) == (BOT_ID, api.username)


async def test_updates_are_kept_until_they_are_confirmed(bot: Bot, api: BotApi) -> None:
    assert await bot.get_updates(timeout=0) == ()
    first = api.say("one", sender=7)
    api.say("two", chat=-7, entities=[{"type": "mention", "offset": 0, "length": 3}])
    found = await bot.get_updates(timeout=1, allowed_updates=["message"])
    assert [update.message.text for update in found if update.message] == ["one", "two"]
    assert [update.message.chat.type for update in found if update.message] == ["private", "supergroup"]
    assert found[0].message is not None
    assert found[0].message.from_user is not None
    assert (found[0].update_id, found[0].message.from_user.id) == (first, 7)
    assert [update.update_id for update in await bot.get_updates(offset=first + 1, timeout=0)] == [first + 1]
    assert len(await bot.get_updates(timeout=0)) == 1


async def test_messages_and_what_is_refused(bot: Bot, api: BotApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTB_TIMEDELTA", "1")
    api.say("hi")
    sent = await bot.send_message(42, "hello")
    assert (sent.text, sent.chat.id, api.texts()) == ("hello", 42, ["hello"])
    assert await bot.send_chat_action(42, "typing") is True
    with pytest.raises(BadRequest, match=r"(?i)chat not found"):
        await bot.send_message(43, "hello")
    with pytest.raises(BadRequest, match=r"(?i)too long"):
        await bot.send_message(42, "x" * 4097)
    with pytest.raises(BadRequest, match=r"(?i)empty"):
        await bot.send_message(42, " ")
    api.refuse("sendMessage", 429, "Too Many Requests: retry after 7", retry_after=7)
    with pytest.raises(RetryAfter):
        await bot.send_message(42, "hello")


async def test_a_webhook_and_polling_exclude_each_other(bot: Bot) -> None:
    assert await bot.set_webhook("https://example.com/hooks/acme/telegram", secret_token="proof", allowed_updates=[])
    assert (await bot.get_webhook_info()).url == "https://example.com/hooks/acme/telegram"
    with pytest.raises(Conflict):
        await bot.get_updates(timeout=0)
    with pytest.raises(BadRequest, match=r"(?i)https"):
        await bot.set_webhook("http://example.com/x")
    assert await bot.delete_webhook()
    assert await bot.get_updates(timeout=0) == ()


async def test_another_token_is_none(api: BotApi) -> None:
    requests = [HTTPXRequest(httpx_kwargs={"trust_env": False}) for _ in range(2)]
    bot = Bot("1:other", base_url=f"{api.base_url}/bot", request=requests[0], get_updates_request=requests[1])
    with pytest.raises(InvalidToken):
        await bot.get_me()
    for request in requests:
        await request.shutdown()
