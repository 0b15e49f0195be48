"""Settings are understood, and no secret stays in them."""

import json
import re

from carrel.imports.json5 import parse
from carrel.imports.report import Report
from carrel.imports.settings import understand
from carrel.secrets import SECRET_NAME_PATTERN
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
    assert told["main"] == ("changed", "main; not taken of it: identity")


def test_ids_that_are_none_or_one_spelt_twice() -> None:
    report = Report()
    found = understand(
        {"agents": {"list": [{"id": "A"}, {"id": "a"}, {"id": "/../"}, {"id": "💥"}, 5, {}]}}, [], report
    )
    assert list(found.agents) == ["a"]
    assert report.counts["agent", "refused"] == 5
    assert {"agents.list.4", "agents.list.5"} <= {item.name for item in report.items}


def test_two_values_of_one_name_are_both_kept() -> None:
    found = understand({"channels": {"a": {"b_token": "1"}, "a.b": {"token": "2"}}}, [], Report())
    assert sorted(found.secrets.values()) == ["1", "2"]
    assert len(found.secrets) == 2


def test_what_is_no_settings_is_none() -> None:
    for config in ({}, {"agents": 5, "channels": [], "env": "x"}, {"agents": {"list": {"id": "x"}}}):
        assert understand(config, ["main"], Report()).agents["main"].model is None


def test_no_secret_stays_in_what_is_kept_by_whatever_name() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nnot-a-real-key"
    channels = {"c": {
        "tokens": ["list-1", "list-2"], "byName": {"accessKeys": {"7": "numbered"}}, "serviceAccount": "{account}",
        "headers": {"Authorization": "Bearer header"}, "proxy": "http://me:inurl@proxy.example.org", "pem": key,
        "password": 123456, "source": {"source": "x", "id": "y", "botToken": "beside"}, "maxTokens": 4096,
        "home": "https://matrix.example.org/@me",
    }}  # fmt: skip
    found = understand({"channels": channels}, [], Report())
    kept = json.dumps(found.channels)
    for secret in ("list-1", "list-2", "numbered", "{account}", "Bearer", "inurl", "PRIVATE", "123456", "beside"):
        assert secret not in kept, secret
        assert any(secret in value for value in found.secrets.values()), secret
    assert (found.channels["c"]["maxTokens"], found.channels["c"]["home"]) == (4096, channels["c"]["home"])


def test_names_of_secrets_are_names_that_the_vault_takes() -> None:
    values = {f"9{'x' * 80}": "1", f"9{'X' * 80}": "2", f"9{'x' * 79}Y": "3", "\U0001f99e": "4", "302ai": "5"}
    found = understand({"env": values}, [], Report())
    assert sorted(found.secrets.values()) == ["1", "2", "3", "4", "5"]
    assert all(re.fullmatch(SECRET_NAME_PATTERN, name) for name in found.secrets)


def test_each_setting_that_is_not_taken_is_told_and_its_secrets_are_kept() -> None:
    report = Report()
    found = understand({
        "agents": {"defaults": {"model": {"primary": "a/b", "fallbacks": ["c/d"]}, "heartbeat": {"every": "1h"}},
                   "list": [{"id": "main", "tools": {"search": {"apiKey": "k-tools"}}}]},
        "skills": {"entries": {"rhyme": {"apiKey": "k-skill"}}}, "cron": {"enabled": False}, "meta": {}, "wizard": {},
        "env": {"shellEnv": {"enabled": True}, "PORT": 5, "vars": {"A": "k-env"}},
    }, [], report)  # fmt: skip
    assert sorted(found.secrets.values()) == ["k-env", "k-skill", "k-tools"]
    told = {item.name: item for item in report.items}
    for name in ("agents.defaults.heartbeat", "skills", "cron", "meta", "wizard", "env.shellEnv", "env.PORT"):
        assert told[name].outcome == "left", name
    assert "env.vars" not in told
    assert told["main"].detail == "main; not taken of it: tools, model.fallbacks"
