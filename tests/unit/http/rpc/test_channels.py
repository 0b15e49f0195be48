"""`channels.*`."""

from dataclasses import replace

from tests.fakes.channels import shared, telegram
from tests.fakes.edge import Edge, token_of
from tests.fakes.patience import eventually
from tests.fakes.socket import opened
from tests.fakes.telegram import running_bot_api
from tests.unit.http.rpc.conftest import Rpc


def declare(edge: Edge) -> None:
    acme = edge.directory.current.tenants["acme"]  # type: ignore[index] # a literal id
    channels = {"telegram": telegram(allow_from=[7])}
    edge.publish(replace(acme, config=acme.config.model_copy(update={"channels": channels})))


async def test_a_channel_as_existing_clients_read_it(edge: Edge, rpc: Rpc) -> None:
    assert (await rpc("channels.status"))["channelOrder"] == []
    with running_bot_api() as api:
        edge.configure(channels=shared(api))
        declare(edge)
        started = await rpc("channels.start", {"channel": "telegram", "accountId": "main"})
        assert (started["ok"], started["accounts"][0]["connected"]) == (True, True)
        told = await rpc("channels.status", {"probe": True, "timeoutMs": 5000, "channel": "telegram"})
        assert (told["channelOrder"], told["channelLabels"]) == (["telegram"], {"telegram": "Telegram"})
        assert told["channelDefaultAccountId"] == {"telegram": "main"}
        assert told["channels"]["telegram"]["running"] is True
        (account,) = told["channelAccounts"]["telegram"]
        expected = {
            "accountId": "main", "enabled": True, "configured": True, "linked": True, "running": True,
            "connected": True, "stopped": False, "dmPolicy": "pairing", "probeOk": True,
        }  # fmt: skip
        assert {name: account[name] for name in expected} == expected
        assert account["lastProbeAt"] > 1_700_000_000_000
        assert (await rpc("health"))["channels"] == {"telegram": {"connected": True}}
        for method, running in (("stop", False), ("start", True), ("logout", False)):
            (account,) = (await rpc(f"channels.{method}", {"channel": "telegram"}))["accounts"]
            assert (account["running"], account["stopped"]) == (running, not running)
        assert (await rpc("channels.status", tenant="bravo"))["channelOrder"] == []
        refused = await rpc("channels.stop", {"channel": "telegram"}, tenant="bravo")
        assert refused["data"]["code"] == "not_found"


async def test_somebody_is_let_in_and_out_and_the_tenant_hears_of_it(edge: Edge, rpc: Rpc) -> None:
    with running_bot_api() as api:
        edge.configure(channels=shared(api))
        async with opened(edge.url, token_of("acme"), "?events=channels") as owner:
            declare(edge)
            assert (await owner.next("channels.changed"))["payload"]["connected"] is True
            api.say("let me in")
            asked = (await owner.next("channels.pairing"))["payload"]
            assert (asked["status"], asked["sender"], asked["name"]) == ("requested", "42", "Ada")
        await eventually(api.texts)
        people = await rpc("channels.pair", {"channel": "telegram"})
        assert (people["allowFrom"], people["paired"], people["dmPolicy"]) == (["7"], [], "pairing")
        code = people["pending"][0]["code"]
        order = {"channel": "telegram", "code": code, "idempotencyKey": "k"}
        people = await rpc("channels.pair", order)
        assert (people["pending"], people["paired"][0]["sender"]) == ([], "42")
        assert await rpc("channels.pair", order) == people
        again = await rpc("channels.pair", {"channel": "telegram", "code": code})
        assert again["data"]["code"] == "not_found"
        people = await rpc("channels.pair", {"channel": "telegram", "sender": "42", "decision": "remove"})
        assert people["paired"] == []
        api.say("again")
        await eventually(lambda: len(api.texts()) == 3)
        code = (await rpc("channels.pair", {"channel": "telegram"}))["pending"][0]["code"]
        people = await rpc("channels.pair", {"channel": "telegram", "code": code, "decision": "reject"})
        assert (people["pending"], people["paired"]) == ([], [])


async def test_what_does_not_go_together_is_refused(edge: Edge, rpc: Rpc) -> None:
    declare(edge)
    for wrong in (
        {"sender": "42"}, {"decision": "remove"}, {"decision": "remove", "code": "A"}, {"decision": "approve"},
        {"code": "A", "sender": "42", "decision": "remove"}, {"sender": "42", "decision": "approve"},
    ):  # fmt: skip
        answer = await rpc("channels.pair", {"channel": "telegram", **wrong})
        assert answer["data"]["code"] == "invalid_request", wrong
