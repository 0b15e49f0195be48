"""Settings are understood, and no secret stays in them."""

import json

from carrel.imports.json5 import parse
from carrel.imports.report import Report
from carrel.imports.settings import understand
from tests.fakes.openclaw import BOT_TOKEN, CONFIG


def test_agents_channels_and_secrets() -> None:
    report = Report()
    found = understand(parse(CONFIG), ["main", "Work_Bot", "extra"], report)
    assert sorted(found.agents) == ["extra", "main", "work_bot"]
    assert (found.agents["main"].model, found.agents["main"].name) == ("anthropic/claude-opus-4-5", "Molty")
    assert (found.agents["work_bot"].model, found.agents["work_bot"].skills) == ("demo/demo", ("rhyme",))
    assert found.secrets == {
        "CHANNELS_TELEGRAM_BOT_TOKEN": BOT_TOKEN, "BRAVE_API_KEY": "BSA-not-a-real-key",
        "GATEWAY_AUTH_TOKEN": "gw-not-a-real-token",
    }  # fmt: skip
    kept = json.dumps(found.channels)
    for secret in found.secrets.values():
        assert secret not in kept
    assert found.channels["telegram"]["botToken"] == {"secret": "CHANNELS_TELEGRAM_BOT_TOKEN"}
    told = {item.name: (item.outcome, item.detail) for item in report.items}
    assert told["channels.telegram.accounts.second.botToken"][0] == "left"
    assert "TELEGRAM_SECOND" in told["channels.telegram.accounts.second.botToken"][1]
    assert "op://vault/slack" in told["channels.slack.appToken"][1]
    assert told["messages"][0] == "left"
    assert told["Work_Bot"] == ("changed", "work_bot; not taken of it: heartbeat")


def test_ids_that_are_none_or_one_spelt_twice() -> None:
    report = Report()
    found = understand(
        {"agents": {"list": [{"id": "A"}, {"id": "a"}, {"id": "/../"}, {"id": "💥"}, 5, {}]}}, [], report
    )
    assert list(found.agents) == ["a"]
    assert report.counts["agent", "refused"] == 3


def test_two_values_of_one_name_are_both_kept() -> None:
    found = understand({"channels": {"a": {"b_token": "1"}, "a.b": {"token": "2"}}}, [], Report())
    assert sorted(found.secrets.values()) == ["1", "2"]
    assert len(found.secrets) == 2


def test_what_is_no_settings_is_none() -> None:
    for config in ({}, {"agents": 5, "channels": [], "env": "x"}, {"agents": {"list": {"id": "x"}}}):
        assert understand(config, ["main"], Report()).agents["main"].model is None
