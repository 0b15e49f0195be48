from typing import Any

import pytest

from carrel.declare.channels import ChannelsConfig
from carrel.declare.judge import judge
from carrel.declare.operators import Operators
from tests.unit.declare.test_operators import operators

SOME = operators(default_model="demo")
BOT = {"token": {"secret": "BOT"}}


def telegram(**more: Any) -> dict[str, Any]:
    return {"kind": "telegram", "accounts": {"main": BOT}, **more}


def public() -> Operators:
    gateway = SOME.gateway.model_copy(update={"channels": ChannelsConfig(public_url="https://carrel.example.com")})
    return Operators(gateway, SOME.rate_card, SOME.plans, SOME.allowlists)


def test_a_channel_needs_a_kind_and_an_account_and_no_more() -> None:
    verdict = judge(SOME, {"channels": {"telegram": telegram()}}, None)
    assert verdict.config is not None
    channel = verdict.config.channels["telegram"]
    assert (channel.dm_policy, channel.groups, channel.accounts["main"].delivery) == ("pairing", (), "poll")


@pytest.mark.parametrize(
    ("channels", "path", "near"),
    [
        ({"t": telegram(agent="mian")}, ("channels", "t", "agent"), "main"),
        ({"t": telegram(member="ada")}, ("channels", "t", "member"), None),
        ({"t": telegram(), "u": telegram()}, ("channels", "u", "accounts", "main", "token", "secret"), None),
        (
            {"t": {"kind": "telegram", "accounts": {"a": BOT, "b": BOT}}},
            ("channels", "t", "accounts", "b", "token", "secret"),
            None,
        ),
        (
            {"t": telegram(accounts={"a": {**BOT, "webhook_secret": {"secret": "W"}},
                                     "b": {"token": {"secret": "B"}, "webhook_secret": {"secret": "W"}}})},
            ("channels", "t", "accounts", "b", "webhook_secret", "secret"), None,
        ),
    ],
)  # fmt: skip
def test_what_does_not_hold_together_is_found(
    channels: dict[str, Any], path: tuple[object, ...], near: str | None
) -> None:
    verdict = judge(SOME, {"channels": channels}, None)
    assert verdict.config is None
    (finding,) = verdict.declared
    assert (finding.path, finding.nearest) == (path, near)


def test_a_webhook_needs_a_secret_and_a_public_address() -> None:
    alone = {**BOT, "delivery": "webhook"}
    found = judge(SOME, {"channels": {"t": telegram(accounts={"main": alone})}}, None).declared
    assert ["without a secret" in one.message for one in found] == [True, False]
    assert "channels.public_url" in found[1].message
    whole = {**alone, "webhook_secret": {"secret": "W"}}
    assert judge(public(), {"channels": {"t": telegram(accounts={"main": whole})}}, None).config is not None


def test_the_overlay_must_not() -> None:
    verdict = judge(SOME, {}, {"channels": {"telegram": telegram()}})
    (finding,) = verdict.overlay
    assert finding.path == ("channels",)
    assert "only the operator may set this" in finding.message
