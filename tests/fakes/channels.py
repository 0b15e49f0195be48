"""The channels of one tenant for tests: the real room and the real engine, against the Bot API server beside this."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from carrel.channels.answering import Question
from carrel.channels.service import Channels
from carrel.channels.telegram import Telegram
from carrel.clock import Clock, SystemClock
from carrel.declare.channels import Channel, ChannelsConfig
from carrel.errors import CarrelError
from carrel.events.hub import Hub, Subscription
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Directory, Snapshot, Tenant
from tests.fakes.administration import FakeAudit
from tests.fakes.engines import FakeSecrets
from tests.fakes.telegram import TOKEN, BotApi
from tests.fakes.tenants import make_snapshot, make_tenant

PROOF = "s3cret-of-the-hook"


@dataclass
class Speaker:
    """Answers at once, or when it is told to; ``problem`` is raised instead."""

    problem: CarrelError | None = None
    go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[Question] = field(default_factory=list)
    reset_keys: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)

    async def answer(self, tenant: Tenant, snapshot: Snapshot, question: Question) -> str:
        self.asked.append(question)
        await self.go.wait()
        if self.problem is not None:
            raise self.problem
        return self.answers.get(question.text, f"You said: {question.text}")

    async def reset(self, tenant: Tenant, agent: str | None, key: str) -> None:
        self.reset_keys.append(key)


@dataclass
class ChannelHouse:
    """Running channels with all that they stand on."""

    state: Path
    tenant: Tenant
    directory: Directory
    channels: Channels
    speaker: Speaker
    audit: FakeAudit
    secrets: FakeSecrets
    events: list[str]
    metrics: Metrics

    def publish(self, **changes: Any) -> Tenant:
        """The tenant as it is from now on."""
        current = self.directory.current
        self.tenant = replace(current.tenant(self.tenant.id), **changes)
        self.directory.publish(replace(current, tenants={**current.tenants, self.tenant.id: self.tenant}))
        return self.tenant

    def declare(self, **channels: Channel) -> Tenant:
        """Other channels from now on."""
        return self.publish(config=self.tenant.config.model_copy(update={"channels": channels}))


def telegram(*, delivery: str = "poll", token: str = "BOT", **fields: Any) -> Channel:  # noqa: S107 - a secret's name
    """A channel as YAML would declare it."""
    account: dict[str, Any] = {"token": {"secret": token}, "delivery": delivery}
    if delivery == "webhook":
        account["webhook_secret"] = {"secret": "HOOK"}
    return Channel.model_validate({"kind": "telegram", "accounts": {"main": account}, **fields}, strict=False)


def shared(api: BotApi) -> ChannelsConfig:
    """Where the platform and the gateway are."""
    return ChannelsConfig.model_validate(
        {"telegram": {"base_url": api.base_url}, "public_url": "https://carrel.example.com"}
    )


@asynccontextmanager
async def channel_house(
    state: Path, api: BotApi, channel: Channel | None = None, *, clock: Clock | None = None,
    speaker: Speaker | None = None, poll_seconds: int = 50, **secrets: str,
) -> AsyncIterator[ChannelHouse]:  # fmt: skip
    """Channels that run, with one called ``telegram`` where ``channel`` is given."""
    declared = {"telegram": channel} if channel is not None else {}
    tenant, directory, clock = make_tenant(state, channels=declared), Directory(), clock or SystemClock()
    directory.publish(make_snapshot(tenant, channels=shared(api)))
    hub, tasks, audit, spoken = Hub(clock=clock), Tasks("channels"), FakeAudit(), speaker or Speaker()
    metrics = Metrics()
    if speaker is None:
        spoken.go.set()
    kept = FakeSecrets(**{"BOT": TOKEN, "HOOK": PROOF, **secrets})
    events: list[str] = []
    hub.subscribe(tenant, Subscription(None, ("channels",), lambda event: events.append(event.text)))
    channels = Channels(
        directory=directory, clock=clock, tasks=tasks, hub=hub, audit=audit, speak=spoken, secrets=kept,
        platforms={"telegram": Telegram(poll_seconds=poll_seconds)}, counts=metrics,
    )  # fmt: skip
    tasks.start(channels.run(), name="follow")
    try:
        yield ChannelHouse(state, tenant, directory, channels, spoken, audit, kept, events, metrics)
    finally:
        await tasks.close(grace=10.0)
        await channels.close()
