"""Channels in the whole gateway: their questions are turns like any other's, allowed, metered and kept in sessions."""

from collections import Counter
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Final, Protocol

from carrel.agents.events import Turn
from carrel.agents.sends import Sends
from carrel.agents.sessions import Sessions
from carrel.channels.account import Secrets
from carrel.channels.answering import Question
from carrel.channels.service import Channels, Record
from carrel.channels.telegram import Telegram
from carrel.clock import Clock
from carrel.events.hub import Hub
from carrel.policy.names import require_agent
from carrel.tasks import Tasks
from carrel.telemetry import Gauges, Metrics
from carrel.tenancy.handle import Directory, Snapshot, Tenant
from carrel.wire.conversation import Message, Text

GAUGES: Final = MappingProxyType({
    "carrel_channel_accounts": (
        "Accounts of channels by how they stand: connected, connecting, failing or off.",
        ("tenant", "channel", "state"),
    ),
})  # fmt: skip
"""Their help and labels, by name."""


class Admits(Protocol):
    """Counts requests."""

    async def admit_request(self, tenant: Tenant) -> None:
        """Count one; raises QuotaExceeded."""
        ...


class Conversations:
    """See `channels.answering.Speaks`."""

    def __init__(self, *, sends: Sends, sessions: Sessions, meter: Admits) -> None:
        self._sends = sends
        self._sessions = sessions
        self._meter = meter

    async def answer(self, tenant: Tenant, snapshot: Snapshot, question: Question) -> str:
        """See `Speaks`. What a turn answered before a gateway died is not asked for again."""
        agent = require_agent(tenant, question.agent)
        session = await self._sessions.find_or_create(tenant, agent, question.key)
        if question.again:
            known = await self._sessions.answered(tenant, session.session_id, question.request_id)
            if known is not None:
                return known.text
        else:
            await self._meter.admit_request(tenant)
        turn = Turn(
            agent=agent, session_id=session.session_id, messages=(Message("user", (Text(question.text),)),),
            request_id=question.request_id, system=question.manner, again=question.again,
        )  # fmt: skip
        return (await self._sends.send(tenant, snapshot, turn)).finished.text

    async def reset(self, tenant: Tenant, agent: str | None, key: str) -> None:
        """See `Speaks`."""
        session = await self._sessions.find_or_create(tenant, require_agent(tenant, agent), key)
        await self._sessions.reset(tenant, session.session_id)


def build_channels(
    stack: AsyncExitStack, *, directory: Directory, clock: Clock, hub: Hub, audit: Record, secrets: Secrets,
    sends: Sends, sessions: Sessions, meter: Admits, metrics: Metrics,
) -> Channels:  # fmt: skip
    """Build them; ``stack`` stops and closes them. They run from here on."""
    tasks = Tasks("channels")
    speak = Conversations(sends=sends, sessions=sessions, meter=meter)
    channels = Channels(
        directory=directory, clock=clock, tasks=tasks, hub=hub, audit=audit, speak=speak, secrets=secrets,
        platforms={"telegram": Telegram()}, counts=metrics,
    )  # fmt: skip
    metrics.read_from(GAUGES, lambda: gauges(channels, metrics))
    stack.push_async_callback(channels.close)
    stack.push_async_callback(tasks.close, grace=10.0)
    tasks.start(channels.run(), name="follow")
    return channels


def gauges(channels: Channels, metrics: Metrics) -> Gauges:
    """How many accounts of each channel stand how."""
    found: Counter[tuple[str, ...]] = Counter()
    for tenant, channel, _, state, _ in channels.standing():
        found[metrics.label(tenant), channel, state] += 1
    return {"carrel_channel_accounts": dict(found)}
