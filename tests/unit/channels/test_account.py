"""One account, as its platform sees it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.channels import account, book
from tests.fakes.channels import channel_house, telegram
from tests.fakes.clock import FakeClock
from tests.fakes.patience import eventually
from tests.fakes.telegram import TOKEN, BotApi, running_bot_api

OPEN = telegram(dm_policy="open")


@pytest.fixture
def api() -> Iterator[BotApi]:
    with running_bot_api() as running:
        yield running


async def test_it_asks_on_from_where_it_was_also_after_a_restart(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api, OPEN):
        first = api.say("one")
        await eventually(lambda: api.texts() == ["You said: one"])
    async with channel_house(tmp_path, api, OPEN):
        api.say("two")
        await eventually(lambda: api.texts() == ["You said: one", "You said: two"])
    polls = [params.get("offset") for method, params in api.calls if method == "getUpdates"]
    assert (polls[0], first + 1 in polls) == (None, True)


async def test_who_it_is_at_the_platform_is_kept(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api, OPEN) as house:
        api.say("one")
        await eventually(lambda: api.texts() == ["You said: one"])
        tenant, database = house.tenant, house.channels
        (status,) = await database.status(tenant)
        assert (status.standing.bot, status.standing.name) == (TOKEN.partition(":")[0], api.username)


async def test_a_failure_is_told_and_tried_again_later_and_later(tmp_path: Path, api: BotApi) -> None:
    clock = FakeClock()
    api.refuse("getMe", 502, "Bad Gateway", times=2)
    async with channel_house(tmp_path, api, OPEN, clock=clock) as house:
        for pause in (1.0, 2.0):
            await eventually(lambda: clock._sleepers)
            (status,) = await house.channels.status(house.tenant)
            assert (status.running, status.connected) == (True, False)
            assert "502" in str(status.error)
            assert clock._sleepers[0][0] - clock.monotonic() == pause
            clock.advance(pause)
        await eventually(lambda: any('"connected":true' in event for event in house.events))
        (status,) = await house.channels.status(house.tenant)
        assert (status.connected, status.error) == (True, None)


@pytest.mark.parametrize("token", ["123456789:" + "B" * 35, "no token at all"])
async def test_what_only_a_person_can_mend_is_tried_seldom(tmp_path: Path, api: BotApi, token: str) -> None:
    clock = FakeClock()
    async with channel_house(tmp_path, api, OPEN, clock=clock, BOT=token) as house:
        await eventually(lambda: clock._sleepers)
        assert clock._sleepers[0][0] - clock.monotonic() == account.LONGEST_PAUSE
        assert token not in str(house.events)
        house.secrets.values["BOT"] = TOKEN
        (status,) = await house.channels.start(house.tenant, "telegram", None)
        assert status.connected


async def test_a_secret_that_is_not_there_is_said_by_its_name(tmp_path: Path, api: BotApi) -> None:
    clock = FakeClock()
    async with channel_house(tmp_path, api, telegram(token="GONE"), clock=clock) as house:
        await eventually(lambda: clock._sleepers)
        (status,) = await house.channels.status(house.tenant)
        assert "'GONE' is not set" in str(status.error)


async def test_two_who_poll_with_one_token_are_told(tmp_path: Path, api: BotApi) -> None:
    clock = FakeClock()
    api.refuse("getUpdates", 409, "Conflict: terminated by other getUpdates request")
    async with channel_house(tmp_path, api, OPEN, clock=clock) as house:
        await eventually(lambda: clock._sleepers)
        (status,) = await house.channels.status(house.tenant)
        assert "Somebody else gets this bot's messages" in str(status.error)


async def test_while_too_much_waits_the_platform_keeps_the_rest(
    tmp_path: Path, api: BotApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "MOST_WAITING", 1)
    clock = FakeClock()
    async with channel_house(tmp_path, api, OPEN, clock=clock) as house:
        house.speaker.go.clear()
        api.say("one", sender=1)
        await eventually(lambda: house.speaker.asked)
        api.say("two", sender=2)
        await eventually(lambda: any(end - clock.monotonic() == account.FULL_PAUSE for end, _ in clock._sleepers))
        assert [update["message"]["text"] for update in api.updates][-1] == "two"
        house.speaker.go.set()
        await eventually(lambda: api.texts(1))

        def later() -> bool:
            clock.advance(account.FULL_PAUSE)
            return bool(api.texts(2))

        await eventually(later)


async def test_a_webhook_is_set_and_what_it_is_called_with_is_kept(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api, telegram(delivery="webhook", dm_policy="open")) as house:
        await eventually(lambda: any('"connected":true' in event for event in house.events))
        assert api.webhook["url"] == "https://carrel.example.com/hooks/acme/telegram"
        name = "x-telegram-bot-api-secret-token"
        body = b'{"update_id": 9, "message": {"message_id": 1, "from": {"id": 42}, "text": "hello", "date": 1, '
        body += b'"chat": {"id": 42, "type": "private"}}}'
        api.chats.add(42)
        for _ in range(2):
            called = house.channels.called("acme", "telegram", {name: [house.secrets.values["HOOK"]]}, body)
            assert called is not None
            await called.called(body)
        await eventually(lambda: api.texts() == ["You said: hello"])
        assert house.channels.called("acme", "telegram", {name: ["wrong"]}, body) is None


async def test_a_turn_goes_on_while_messages_do_not_come(tmp_path: Path, api: BotApi) -> None:
    clock = FakeClock()
    async with channel_house(tmp_path, api, OPEN, clock=clock, poll_seconds=1) as house:
        house.speaker.go.clear()
        api.say("slow")
        await eventually(lambda: house.speaker.asked)
        api.refuse("getUpdates", 502, "Bad Gateway")
        await eventually(lambda: any("502" in event for event in house.events))
        house.speaker.go.set()
        await eventually(lambda: api.texts() == ["You said: slow"])
        clock.advance(account.LONGEST_PAUSE)
        api.say("after it")
        await eventually(lambda: api.texts()[1:] == ["You said: after it"])
        assert [question.again for question in house.speaker.asked] == [False, False]


async def test_half_a_character_in_a_message_holds_up_no_other(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api, OPEN) as house:
        api.say("half \ud83d a smile")
        api.say("a whole one \U0001f600")
        told = ["You said: half \ufffd a smile", "You said: a whole one \U0001f600"]
        await eventually(lambda: api.texts() == told)
        (status,) = await house.channels.status(house.tenant)
        assert (status.connected, status.error) == (True, None)
