"""Channels: the bots of messaging platforms through which people talk to a tenant's agents, and where platforms are."""

from typing import Annotated, Literal

from pydantic import Field

from carrel.declare.base import Declared, Name, SecretRef

ChannelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
"""The name of a channel, or of an account of one: short, for a session's key holds both."""
Kind = Literal["telegram"]
DmPolicy = Literal["pairing", "allowlist", "open", "disabled"]
PersonId = Annotated[int, Field(ge=1, lt=1 << 53)]
"""A person's number at Telegram. A user name is none: it can become another person's."""
GroupId = Annotated[int, Field(gt=-(1 << 53), le=-1)]
"""A group's number at Telegram, which is negative."""


class ChannelAccount(Declared):
    """One bot of a channel."""

    token: SecretRef = Field(description="The bot's token, as `{secret: NAME}`.")
    enabled: bool = Field(True, description="Whether it runs.")
    delivery: Literal["poll", "webhook"] = Field(
        "poll",
        description="How messages come: `poll` asks the platform for them; `webhook` is called by it, at "
        "`/hooks/TENANT/CHANNEL` under `channels.public_url` of `_gateway.yaml`.",
    )
    webhook_secret: SecretRef | None = Field(
        None,
        description="What the platform proves itself by at the webhook: 1 to 256 of A-Z, a-z, 0-9, `_` and `-`. Each "
        "account needs one of its own.",
    )


class Channel(Declared):
    """A messaging platform through which people talk to an agent. Each chat is a session of its own."""

    kind: Kind = Field(description="The platform.")
    enabled: bool = Field(True, description="Whether its accounts run.")
    accounts: Annotated[dict[ChannelName, ChannelAccount], Field(min_length=1, max_length=20)] = Field(
        description="Its bots by name."
    )
    dm_policy: DmPolicy = Field(
        "pairing",
        description="Who may write to it directly. `pairing`: who is in `allow_from` or was approved; anybody else "
        "gets a code to be approved by. `allowlist`: `allow_from` alone. `open`: anybody. `disabled`: nobody.",
    )
    allow_from: Annotated[tuple[PersonId, ...], Field(max_length=10_000)] = Field(
        (), description="People who may write to it, by their number at the platform."
    )
    groups: Annotated[tuple[GroupId, ...], Field(max_length=1000)] = Field(
        (),
        description="Groups in which it answers whoever mentions it or replies to it, by their number at the platform. "
        "In all others it is silent.",
    )
    agent: Name | None = Field(None, description="The agent that answers. Default: `main`, else the first.")
    member: Name | None = Field(
        None, description="The person of `members` as whom the agent works. Default: nobody in particular."
    )


Url = Annotated[str, Field(pattern=r"^https?://[^\s@?#]+[^\s@?#/]$", max_length=2000)]


class TelegramPlatform(Declared):
    """Where Telegram is."""

    base_url: Url = Field(
        "https://api.telegram.org", description="The Bot API, as that of a Bot API server of your own."
    )


class ChannelsConfig(Declared):
    """What channels of all tenants share."""

    public_url: Annotated[str, Field(pattern=r"^https://[^\s@?#]+[^\s@?#/]$", max_length=2000)] | None = Field(
        None, description="Where platforms reach this gateway, as `https://carrel.example.com`: for webhooks."
    )
    telegram: TelegramPlatform = Field(TelegramPlatform(), description="Where Telegram is.")
