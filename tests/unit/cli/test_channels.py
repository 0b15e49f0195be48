"""`carrel channels`."""

from dataclasses import replace

from tests.fakes.channels import shared, telegram
from tests.fakes.edge import Edge
from tests.fakes.patience import eventually
from tests.fakes.telegram import running_bot_api
from tests.unit.cli.conftest import CommandLine

TENANT = ("--tenant", "acme")


async def test_a_channel_from_its_start_to_its_logout(carrel: CommandLine, edge: Edge) -> None:
    assert "has no channel" in (await carrel("channels", "status", *TENANT)).err
    with running_bot_api() as api:
        edge.configure(channels=shared(api))
        acme = edge.directory.current.tenants["acme"]  # type: ignore[index] # a literal id
        channels = {"telegram": telegram(allow_from=[7])}
        edge.publish(replace(acme, config=acme.config.model_copy(update={"channels": channels})))
        started = await carrel("channels", "start", "telegram", *TENANT)
        assert (started.code, "@carrel_test_bot" in started.out, "connected" in started.out) == (0, True, True)
        api.say("hello")
        await eventually(api.texts)
        listed = await carrel("channels", "pair", "telegram", *TENANT, "--json")
        code = listed.json()["pending"][0]["code"]
        assert code in (await carrel("channels", "pair", "telegram", *TENANT)).out
        assert "is let in" in (await carrel("channels", "pair", "telegram", code, *TENANT)).out
        assert (await carrel("channels", "pair", "telegram", code, *TENANT)).code == 1
        shown = (await carrel("channels", "pair", "telegram", *TENANT)).out
        assert ("let in by" in shown, "declared" in shown) == (True, True)
        assert "42 is let in no more" in (await carrel("channels", "pair", "telegram", *TENANT, "--remove", "42")).out
        assert (await carrel("channels", "status", *TENANT, "--probe")).code == 0
        api.refuse("getMe", 401, "Unauthorized")
        refused = await carrel("channels", "status", "telegram", *TENANT, "--probe")
        assert (refused.code, "token" in refused.out) == (1, True)
        stopped = await carrel("channels", "stop", "telegram", *TENANT, "--account", "main")
        assert (stopped.code, "stopped" in stopped.out) == (0, True)
        gone = await carrel("channels", "logout", "telegram", *TENANT, "--json")
        assert gone.json()["accounts"][0]["linked"] is False


async def test_an_account_that_cannot_be_connected_is_told(carrel: CommandLine, edge: Edge) -> None:
    with running_bot_api(token="1:" + "x" * 35) as api:
        edge.configure(channels=shared(api))
        acme = edge.directory.current.tenants["acme"]  # type: ignore[index] # a literal id
        edge.publish(replace(acme, config=acme.config.model_copy(update={"channels": {"telegram": telegram()}})))
        done = await carrel("channels", "start", "telegram", *TENANT)
        assert (done.code, "fails" in done.out, "does not know this bot's token" in done.out) == (1, True, True)
