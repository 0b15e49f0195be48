"""The models of `channels.*`; see `wire.rpc`."""

from typing import Annotated, Literal

from pydantic import Field

from carrel.wire.rpc import Page, Params, Result

Name = Annotated[str, Field(min_length=1, max_length=32)]


class ChannelsStatusParams(Params):
    """Parameters of `channels.status`."""

    probe: bool = Field(False, description="Ask the platforms too.")
    timeout_ms: Annotated[int, Field(ge=100, le=60_000)] = Field(10_000, description="How long a probe may take.")
    channel: Name | None = Field(None, description="Only this one.")


class ChannelParams(Params):
    """Parameters of `channels.start`, `channels.stop` and `channels.logout`."""

    channel: Name
    account_id: Name | None = Field(None, description="Only this account; all of the channel's without it.")


class ChannelsPairParams(Page):
    """Parameters of `channels.pair`: without a code and a sender it lists; who was let in comes in pages."""

    channel: Name
    code: Annotated[str, Field(min_length=1, max_length=16)] | None = Field(
        None, description="The code that somebody got, to decide about."
    )
    sender: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None, description="Somebody who was let in, with the decision `remove`."
    )
    decision: Literal["approve", "reject", "remove"] | None = Field(None, description="Default: `approve` for a code.")


class ChannelAccountStatus(Result):
    """How an account stands. ``running``: it is tried; ``connected``: it gets messages; ``linked``: it once was."""

    account_id: str
    enabled: bool
    configured: bool
    linked: bool
    running: bool
    connected: bool
    stopped: bool = Field(description="By command, until `channels.start`.")
    delivery: str
    bot: str | None = Field(None, description="The name that people mention it by.")
    last_error: str | None = None
    last_inbound_at: int | None = None
    last_outbound_at: int | None = None
    last_probe_at: int | None = None
    dm_policy: str
    probe_ok: bool | None = None
    probe_error: str | None = None


class ChannelSummary(Result):
    """A channel, by its accounts: one that runs is enough."""

    kind: str
    enabled: bool
    configured: bool
    linked: bool
    running: bool
    connected: bool
    last_error: str | None = None


class ChannelsStatus(Result):
    """All channels, as existing clients read them."""

    ts: int
    channel_order: tuple[str, ...]
    channel_labels: dict[str, str]
    channels: dict[str, ChannelSummary]
    channel_accounts: dict[str, tuple[ChannelAccountStatus, ...]]
    channel_default_account_id: dict[str, str]


class ChannelDone(Result):
    """How the accounts stand after what was asked for."""

    ok: bool
    channel: str
    accounts: tuple[ChannelAccountStatus, ...]


class PairingRequest(Result):
    """Somebody who wrote and waits to be let in."""

    code: str
    account_id: str
    sender: str
    name: str
    requested_at: int
    expires_at: int


class PairedPerson(Result):
    """Somebody who was let in."""

    sender: str
    name: str
    approved_at: int
    approved_by: str


class ChannelPeople(Result):
    """Who waits and who may write. ``allow_from`` are those that the operator declared."""

    channel: str
    dm_policy: str
    allow_from: tuple[str, ...]
    pending: tuple[PairingRequest, ...]
    paired: tuple[PairedPerson, ...]
    next: str | None = None
