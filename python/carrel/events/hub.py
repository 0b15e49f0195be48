"""The hub of events: one numbered row of them a tenant, and those who listen.

Publishing never waits and never fails: a listener that cannot keep up is its own connection's concern. Numbers grow by
one within an epoch, which is one life of the gateway. What was told lately is kept, so that who was cut off goes on
where it stopped; where nobody has listened to a tenant for a while, nothing is kept and an event costs a counter.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from carrel.clock import Clock
from carrel.ids import TenantId
from carrel.tenancy.handle import Tenant

KEPT: Final = 2000
"""Events of one tenant that are kept for who comes back."""
KEPT_BYTES: Final = 2 << 20
KEPT_SECONDS: Final = 600.0
"""How long events are kept on after the last listener left."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it goes out. ``own`` is the member that alone may see it, None where all of the tenant's may."""

    seq: int
    kind: str
    own: str | None
    text: str


Deliver = Callable[[Event], None]


@dataclass(eq=False, slots=True)
class Subscription:
    """Who listens: ``kinds`` are beginnings of the names of events, all of them where there are none."""

    own: str | None
    kinds: tuple[str, ...]
    deliver: Deliver

    def takes(self, event: Event) -> bool:
        """Whether ``event`` is for this listener."""
        if event.own is not None and event.own != self.own:
            return False
        return not self.kinds or any(
            event.kind == kind or event.kind.startswith(f"{kind}.") for kind in self.kinds
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resumed:
    """From where a listener goes on: ``seq`` is the newest event's number; ``missed`` says that some are lost."""

    seq: int
    missed: bool


@dataclass(slots=True)
class _Row:
    seq: int = 0
    size: int = 0
    kept: deque[Event] = field(default_factory=deque)
    listeners: set[Subscription] = field(default_factory=set)
    heard: float = float("-inf")


class Hub:
    """All tenants' events. For use on the event loop."""

    def __init__(self, *, clock: Clock) -> None:
        self.epoch = os.urandom(8).hex()
        self._clock = clock
        self._rows: dict[TenantId, _Row] = {}

    def publish(self, tenant: Tenant, kind: str, payload: Mapping[str, Any], *, own: str | None = None) -> int:
        """Tell ``payload`` as an event ``kind``; its number. ``own`` keeps it to one member."""
        row = self._rows.setdefault(tenant.id, _Row())
        row.seq += 1
        if not row.listeners and self._clock.monotonic() - row.heard > KEPT_SECONDS:
            row.kept.clear()
            row.size = 0
            return row.seq
        event = Event(row.seq, kind, own, self._text(row.seq, kind, payload))
        row.kept.append(event)
        row.size += len(event.text)
        while len(row.kept) > KEPT or row.size > KEPT_BYTES:
            row.size -= len(row.kept.popleft().text)
        for listener in tuple(row.listeners):
            if listener.takes(event):
                listener.deliver(event)
        return row.seq

    def subscribe(
        self, tenant: Tenant, subscription: Subscription, *, epoch: str | None = None, after: int | None = None
    ) -> Resumed:
        """Listen from now on; what came after the event ``after`` of ``epoch`` is delivered before this returns."""
        row = self._rows.setdefault(tenant.id, _Row())
        missed = False
        if after is not None:
            first = row.kept[0].seq if row.kept else row.seq + 1
            missed = epoch != self.epoch or after + 1 < first or after > row.seq
            for event in () if epoch != self.epoch else tuple(row.kept):
                if event.seq > after and subscription.takes(event):
                    subscription.deliver(event)
        row.listeners.add(subscription)
        return Resumed(row.seq, missed)

    def leave(self, tenant: Tenant, subscription: Subscription) -> None:
        """Listen no more."""
        row = self._rows.get(tenant.id)
        if row is not None:
            row.listeners.discard(subscription)
            row.heard = self._clock.monotonic()

    def listeners(self, tenant: Tenant) -> Sequence[Subscription]:
        """Who listens to a tenant now."""
        row = self._rows.get(tenant.id)
        return () if row is None else tuple(row.listeners)

    def _text(self, seq: int, kind: str, payload: Mapping[str, Any]) -> str:
        moment = int(self._clock.now().timestamp() * 1000)
        return json.dumps(
            {
                "jsonrpc": "2.0",
                "method": "event",
                "params": {"seq": seq, "event": kind, "ts": moment, "payload": payload},
            },
            separators=(",", ":"),
        )
