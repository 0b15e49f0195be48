"""All accounts: followed, started, stopped, and what people ask of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.channels.protocol import Identity
from carrel.errors import NotFound
from carrel.ids import RequestId
from carrel.wire.control import Actor
from tests.fakes.channels import ChannelHouse, channel_house, telegram
from tests.fakes.patience import eventually
from tests.fakes.telegram import BotApi, running_bot_api

OPEN = telegram(dm_policy="open")
OPS = Actor("ops", RequestId("req_1"))


@pytest.fixture
def api() -> Iterator[BotApi]:
    with running_bot_api() as running:
        yield running


async def connected(house: ChannelHouse) -> bool:
    (status,) = await house.channels.status(house.tenant)
    return status.connected


async def until_connected(house: ChannelHouse, *, wanted: bool = True) -> None:
    for _ in range(6000):
        if await connected(house) is wanted:
            return
        await house.channels._clock.sleep(0.01)
    raise AssertionError("the account does not come to that")


async def test_what_is_declared_is_followed(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api) as house:
        assert await house.channels.status(house.tenant) == []
        house.declare(telegram=OPEN)
        await until_connected(house)
        house.publish(suspended=True)
        await until_connected(house, wanted=False)
        api.say("while it is suspended")
        house.publish(suspended=False)
        await eventually(lambda: api.texts() == ["You said: while it is suspended"])
        house.declare(telegram=OPEN.model_copy(update={"enabled": False}))
        await until_connected(house, wanted=False)
        house.declare()
        await eventually(lambda: not house.channels._running)


async def test_how_accounts_stand_and_what_became_of_messages_is_counted(tmp_path: Path, api: BotApi) -> None:
    def counted(outcome: str) -> float | None:
        labels = {"tenant": house.tenant.id, "channel": "telegram", "outcome": outcome}
        return house.metrics.registry.get_sample_value("carrel_channel_messages_total", labels)

    async with channel_house(tmp_path, api, OPEN) as house:
        await until_connected(house)
        assert list(house.channels.standing()) == [(house.tenant.id, "telegram", "main", "connected", "")]
        api.say("hello")
        await eventually(lambda: counted("answered") == 1)
        api.refuse("sendMessage", 403, "Forbidden: bot was blocked by the user")
        api.say("are you there?")
        await eventually(lambda: counted("unsent") == 1)
        assert counted("taken") == 2
        api.refuse("getMe", 401, "Unauthorized", times=10)
        await house.channels.start(house.tenant, "telegram", None)
        ((*_, state, error),) = house.channels.standing()
        assert (state, "BotFather" in error) == ("failing", True)
        await house.channels.stop(house.tenant, "telegram", None)
        assert [one[3] for one in house.channels.standing()] == ["off"]


async def test_stopped_is_stopped_until_it_is_started(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api, OPEN) as house:
        await until_connected(house)
        (status,) = await house.channels.stop(house.tenant, "telegram", None)
        assert (status.running, status.standing.stopped) == (False, True)
    async with channel_house(tmp_path, api, OPEN) as house:
        await eventually(lambda: house.directory._followers)
        house.publish(problem="anything")
        (status,) = await house.channels.status(house.tenant)
        assert not status.running
        (status,) = await house.channels.start(house.tenant, "telegram", "main")
        assert (status.running, status.connected) == (True, True)
        assert any('"reason":"stopped"' not in event and '"connected":true' in event for event in house.events)


async def test_somebody_is_let_in_by_a_code_and_stays_so_over_a_restart(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api, telegram()) as house:
        api.say("let me in")
        await eventually(api.texts)
        ((asking,), ()) = await house.channels.people(house.tenant, "telegram")
        assert asking.code in api.texts()[0]
        await eventually(lambda: house.audit.recorded == [("channels.pair.ask", "telegram", "ok")])
        with pytest.raises(NotFound):
            await house.channels.decide(house.tenant, "telegram", "AAAAAAAA", approve=True, by=OPS)
        await house.channels.decide(house.tenant, "telegram", asking.code, approve=True, by=OPS)
        assert house.audit.recorded[1:] == [("channels.pair", "telegram", "ok")]
        assert api.texts()[1] == "You were let in: write a message, and I answer."
        told = [json.loads(event)["params"]["payload"] for event in house.events if "channels.pairing" in event]
        assert [one["status"] for one in told] == ["requested", "approved"]
        assert asking.code not in str(told)
    async with channel_house(tmp_path, api, telegram()) as house:
        api.say("hello")
        await eventually(lambda: api.texts()[2:] == ["You said: hello"])
        await house.channels.remove(house.tenant, "telegram", "42", by=OPS)
        api.say("hello?")
        await eventually(lambda: len(api.texts()) == 4)
        assert "Your code is" in api.texts()[3]


async def test_a_logout_forgets_who_was_let_in_and_takes_the_webhook_back(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api, telegram(delivery="webhook")) as house:
        await until_connected(house)
        assert api.webhook
        (status,) = await house.channels.logout(house.tenant, "telegram", None)
        assert (status.running, status.standing.linked, api.webhook) == (False, False, {})
        assert await house.channels.people(house.tenant, "telegram") == ([], [])
        (status,) = await house.channels.start(house.tenant, "telegram", None)
        assert status.connected


async def test_a_probe_asks_the_platform_also_for_what_does_not_run(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api, OPEN) as house:
        await until_connected(house)
        await house.channels.stop(house.tenant, "telegram", None)
        (status,) = await house.channels.status(house.tenant, probe=True)
        assert status.probe == Identity("123456789", api.username)
        assert status.standing.last_probe is not None
        api.refuse("getMe", 401, "Unauthorized")
        (status,) = await house.channels.status(house.tenant, "telegram", probe=True)
        assert "does not know this bot's token" in str(status.probe)


async def test_what_there_is_not_is_not_found(tmp_path: Path, api: BotApi) -> None:
    async with channel_house(tmp_path, api, OPEN) as house:
        for act in (house.channels.start, house.channels.stop, house.channels.logout):
            with pytest.raises(NotFound, match="no such channel"):
                await act(house.tenant, "discord", None)
            with pytest.raises(NotFound, match="no such account"):
                await act(house.tenant, "telegram", "other")
        with pytest.raises(NotFound):
            await house.channels.status(house.tenant, "discord")
        with pytest.raises(NotFound):
            await house.channels.people(house.tenant, "discord")
