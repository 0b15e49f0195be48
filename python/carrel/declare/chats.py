"""What must agree about a tenant's channels: who answers, as whom, and that no two accounts are taken for one."""

from collections.abc import Iterator
from typing import Final

from carrel.declare.channels import Channel, ChannelAccount, ChannelsConfig
from carrel.declare.directory import GATEWAY
from carrel.declare.problems import Finding, Path, nearest, shown
from carrel.declare.tenant import Tenant

_BELIEVES: Final = "a webhook without a secret would believe anybody: name one as `webhook_secret: {secret: NAME}`"


def channel_findings(shared: ChannelsConfig, config: Tenant) -> Iterator[Finding]:
    """A finding for each thing of ``config.channels`` that does not hold together."""
    agents, people = tuple(config.agents), tuple(member.name for member in config.members)
    tokens: dict[str, str] = {}
    for name, channel in config.channels.items():
        where: Path = ("channels", name)
        if channel.agent is not None and channel.agent not in agents:
            close = nearest(channel.agent, agents)
            yield Finding((*where, "agent"), "no such agent", shown(channel.agent), agents, close)
        if channel.member is not None and channel.member not in people:
            close = nearest(channel.member, people)
            yield Finding((*where, "member"), "no such member", shown(channel.member), people, close)
        yield from _account_findings(shared, where, channel, tokens)


def _account_findings(
    shared: ChannelsConfig, where: Path, channel: Channel, tokens: dict[str, str]
) -> Iterator[Finding]:
    proofs: set[str] = set()
    for name, account in channel.accounts.items():
        at: Path = (*where, "accounts", name)
        other = tokens.setdefault(account.token.secret, f"{where[1]}.accounts.{name}")
        if other != f"{where[1]}.accounts.{name}":
            message = f"channels.{other} has the same: each would take the other's messages"
            yield Finding((*at, "token", "secret"), message)
        if account.delivery == "webhook":
            yield from _webhook_findings(shared, at, account)
        if account.webhook_secret is not None:
            if account.webhook_secret.secret in proofs:
                message = "another account of this channel has the same: which of them is called is told by it"
                yield Finding((*at, "webhook_secret", "secret"), message)
            proofs.add(account.webhook_secret.secret)


def _webhook_findings(shared: ChannelsConfig, at: Path, account: ChannelAccount) -> Iterator[Finding]:
    if account.webhook_secret is None:
        yield Finding((*at, "delivery"), _BELIEVES, shown(account.delivery))
    if shared.public_url is None:
        message = f"{GATEWAY} does not say where the platform reaches this gateway: set channels.public_url there"
        yield Finding((*at, "delivery"), message, shown(account.delivery))
