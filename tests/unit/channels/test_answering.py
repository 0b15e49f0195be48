"""Answers, as people at the other end see them."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from carrel.channels import answering
from carrel.errors import InternalError, QuotaExceeded, Unavailable
from tests.fakes.channels import Speaker, channel_house, telegram
from tests.fakes.patience import eventually, soon
from tests.fakes.telegram import BotApi, running_bot_api

OPEN = telegram(dm_policy="open", groups=[-7])
RESET = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture
def api() -> Iterator[BotApi]:
    with running_bot_api() as running:
        yield running


async def test_each_chat_is_answered_in_its_order_and_in_a_session_of_its_own(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api, OPEN) as house:
        for number in range(3):
            api.say(f"a{number}", sender=1)
            api.say(f"b{number}", sender=2)
        await eventually(lambda: len(api.sent) == 6)
        assert api.texts(1) == ["You said: a0", "You said: a1", "You said: a2"]
        assert api.texts(2) == ["You said: b0", "You said: b1", "You said: b2"]
        keys = {(one.key, one.text[0]) for one in house.speaker.asked}
        assert keys == {("telegram/main/dm/1", "a"), ("telegram/main/dm/2", "b")}
        assert len({one.request_id for one in house.speaker.asked}) == 6
        assert "over Telegram, in a direct chat" in house.speaker.asked[0].manner


async def test_a_chat_that_takes_long_holds_up_no_other_and_is_seen_typing(tmp_path: Path, api: BotApi) -> None:
    speaker = Speaker()
    async with channel_house(tmp_path, api, OPEN, speaker=speaker):
        api.say("slow", sender=1)
        await eventually(lambda: ("sendChatAction", {"chat_id": 1, "action": "typing"}) in api.calls)
        speaker.go.set()
        await eventually(lambda: api.texts(1))


async def test_a_group_is_told_who_speaks_and_is_answered_as_a_reply(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api, OPEN) as house:
        text = f"@{api.username} hello"
        mention = {"type": "mention", "offset": 0, "length": len(api.username) + 1}
        api.say("not for the bot", chat=-7)
        api.say(text, chat=-8, entities=[mention])
        api.say(text, chat=-7, entities=[mention])
        await eventually(lambda: api.texts(-7))
        (asked,) = house.speaker.asked
        assert (asked.text, asked.key) == (f"Ada: {text}", "telegram/main/group/-7")
        assert api.sent[0]["params"]["reply_parameters"]["message_id"] == 3
        assert api.texts(-8) == []


async def test_a_long_answer_comes_in_pieces(tmp_path: Path, api: BotApi) -> None:
    speaker = Speaker(answers={"long": "word " * 2000, "none": " "})
    speaker.go.set()
    async with channel_house(tmp_path, api, OPEN, speaker=speaker):
        api.say("long")
        api.say("none")
        await eventually(lambda: len(api.sent) == 4)
        assert " ".join(api.texts()[:3]).split() == ["word"] * 2000
        assert api.texts()[3] == "(The answer is empty.)"


async def test_a_wait_that_the_platform_asks_for_is_kept_and_nothing_is_said_twice(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api, OPEN):
        api.refuse("sendMessage", 429, "Too Many Requests: retry after 1", retry_after=1)
        api.refuse("sendMessage", 502, "Bad Gateway")
        api.say("hello")
        api.say("more")
        await eventually(lambda: len(api.sent) == 2)
        assert api.texts() == ["You said: hello", "You said: more"]


async def test_who_blocked_the_bot_holds_up_nobody(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api, OPEN) as house:
        api.refuse("sendMessage", 403, "Forbidden: bot was blocked by the user")
        api.say("hello", sender=1)
        await eventually(lambda: any("blocked" in event for event in house.events))
        api.say("again", sender=1)
        await eventually(lambda: api.texts(1) == ["You said: again"])
        await eventually(lambda: '"lastError":null' in house.events[-1])
        (status,) = await house.channels.status(house.tenant)
        assert (status.connected, status.error) == (True, None)
        assert "blocked by the user" in str(status.standing.last_error)


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (
            QuotaExceeded("x", quota="tokens_per_day", retry_after=9, reset_at=RESET),
            "The limit of use is reached (tokens_per_day). I can answer again from 2026-03-02 00:00 UTC.",
        ),
        (Unavailable("the environment is building"), "I cannot answer just now. Please try again in a moment."),
        (
            InternalError("secret detail"),
            "Something went wrong, and I have no answer. Whoever runs me can see why.",
        ),
    ],
)
async def test_why_there_is_no_answer_is_said_and_no_detail_of_it(
    tmp_path: Path, api: BotApi, problem: Exception, told: str
) -> None:
    speaker = Speaker(problem=problem)  # type: ignore[arg-type] # each is a CarrelError
    speaker.go.set()
    async with channel_house(tmp_path, api, OPEN, speaker=speaker):
        api.say("hello")
        await eventually(lambda: api.texts() == [told])


async def test_words_that_the_channel_understands_itself(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api, OPEN) as house:
        for word in ("/start from-a-link", "/new", f"/reset@{api.username}", ""):
            more: dict[str, Any] = {} if word else {"photo": [{}], "caption": "look"}
            api.say(word, **more)
        await eventually(lambda: len(api.sent) == 4)
        assert house.speaker.reset_keys == ["telegram/main/dm/42"] * 2
        (asked,) = house.speaker.asked
        assert asked.text == "[This came with a photo, which you cannot see.]\nlook"


async def test_what_was_being_answered_when_it_was_stopped_is_asked_again_as_the_same(
    tmp_path: Path, api: BotApi
) -> None:
    stuck = Speaker()
    async with channel_house(tmp_path, api, OPEN, speaker=stuck):
        api.say("hello")
        await eventually(lambda: stuck.asked)
    async with channel_house(tmp_path, api, OPEN) as house:
        await eventually(lambda: api.texts() == ["You said: hello"])
        (first,), (second,) = stuck.asked, house.speaker.asked
        assert (first.request_id, first.again, second.again) == (second.request_id, False, True)


async def test_only_so_many_chats_are_answered_at_a_time(
    tmp_path: Path, api: BotApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "AT_A_TIME", 2)
    speaker = Speaker()
    async with channel_house(tmp_path, api, OPEN, speaker=speaker):
        for sender in range(1, 5):
            api.say("hello", sender=sender)
        await eventually(lambda: len(speaker.asked) == 2)
        await soon(asyncio.sleep(0.05))
        assert len(speaker.asked) == 2
        speaker.go.set()
        await eventually(lambda: len(api.sent) == 4)
