"""Nodes that are connected now: what each can do, and calls that go to one and come back, or do not.

A node is a program on its owner's machine that connects from there: nothing is opened towards it. What it does, and
whether it asks its owner first, is its own affair.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from carrel.clock import Clock
from carrel.declare.problems import nearest
from carrel.errors import CarrelError, InvalidRequest, NotFound, RateLimited, Unavailable
from carrel.events.hub import Hub
from carrel.ids import TenantId
from carrel.tenancy.handle import Tenant

MOST_AT_ONCE: Final = 16
"""Calls that one node has at a time."""


class NodeFailed(CarrelError):
    """The node could not do it, or its owner did not allow it. Says what the node says."""

    code = "node_failed"


class NodeTimeout(CarrelError):
    """The node did not answer in time; whether it did what was asked is not known."""

    code = "node_timeout"
    retryable = True


class Peer(Protocol):
    """The node's connection."""

    @property
    def closed(self) -> bool: ...
    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Tell the node something."""
        ...

    def on_close(self, call: Callable[[], None]) -> None:
        """Call back when the connection has ended."""
        ...


@dataclass(eq=False, slots=True)
class Connected:
    """A node that is connected. ``commands`` are what it offers."""

    tenant: TenantId
    device: str
    peer: Peer
    platform: str
    version: str
    capabilities: tuple[str, ...]
    commands: tuple[str, ...]
    since: datetime
    calls: dict[str, "asyncio.Future[Any]"] = field(default_factory=dict)


class Nodes:
    """The connected nodes of all tenants. For use on the event loop."""

    def __init__(self, *, clock: Clock, hub: Hub) -> None:
        self._clock = clock
        self._hub = hub
        self._nodes: dict[tuple[TenantId, str], Connected] = {}

    def connect(
        self, tenant: Tenant, device: str, peer: Peer, *, platform: str, version: str,
        capabilities: tuple[str, ...], commands: tuple[str, ...],
    ) -> Connected:  # fmt: skip
        """Take in a node; an older connection of the same one is of no use any more."""
        node = Connected(
            tenant.id, device, peer, platform, version, capabilities, commands, self._clock.now()
        )  # fmt: skip
        before = self._nodes.get((tenant.id, device))
        if before is not None:
            self._gone(tenant, before)
        self._nodes[tenant.id, device] = node
        self._hub.publish(tenant, "node.connected", {"nodeId": device, "commands": list(commands)})
        peer.on_close(lambda: self._gone(tenant, node))
        return node

    def get(self, tenant: Tenant, device: str) -> Connected | None:
        """The node, where it is connected."""
        node = self._nodes.get((tenant.id, device))
        return None if node is None or node.peer.closed else node

    def all(self, tenant: Tenant) -> Sequence[Connected]:
        """The tenant's connected nodes."""
        return [node for node in self._nodes.values() if node.tenant == tenant.id and not node.peer.closed]

    async def invoke(self, tenant: Tenant, device: str, command: str, params: Any, *, seconds: float) -> Any:
        """What the node answers to ``command``. Raises Unavailable, InvalidRequest, NodeFailed, NodeTimeout."""
        node = self.get(tenant, device)
        if node is None:
            raise Unavailable("That node is not connected now.")
        if command not in node.commands:
            close = nearest(command, node.commands)
            hint = f"did you mean {close}?" if close else f"it offers {', '.join(node.commands) or 'nothing'}."
            raise InvalidRequest(f"That node does not offer {command[:80]!r}: {hint}", param="command")
        if len(node.calls) >= MOST_AT_ONCE:
            raise RateLimited(f"That node has {MOST_AT_ONCE} calls already.", retry_after=1.0)
        call_id = f"inv_{os.urandom(12).hex()}"
        answer = node.calls[call_id] = asyncio.get_running_loop().create_future()
        ask = {"id": call_id, "command": command, "params": params, "timeoutMs": int(seconds * 1000)}
        try:
            node.peer.notify("node.invoke", ask)
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            node.peer.notify("node.cancel", {"id": call_id})
            raise NodeTimeout(f"The node did not answer within {seconds:g} s.") from None
        except asyncio.CancelledError:
            node.peer.notify("node.cancel", {"id": call_id})
            raise
        finally:
            node.calls.pop(call_id, None)

    def answer(self, tenant: Tenant, device: str, call_id: str, *, result: Any, error: tuple[str, str] | None) -> None:
        """Take a node's answer; raises NotFound where nobody waits for it."""
        node = self._nodes.get((tenant.id, device))
        waiting = node.calls.get(call_id) if node is not None else None
        if waiting is None or waiting.done():
            raise NotFound("Nobody waits for that answer any more.")
        if error is None:
            waiting.set_result(result)
        else:
            waiting.set_exception(NodeFailed(f"The node says: {error[1]}", details={"nodeCode": error[0]}))

    def tell(self, tenant: Tenant, method: str, params: dict[str, Any]) -> None:
        """Tell all of a tenant's connected nodes something."""
        for node in self.all(tenant):
            node.peer.notify(method, params)

    def _gone(self, tenant: Tenant, node: Connected) -> None:
        if self._nodes.get((node.tenant, node.device)) is not node:
            return
        del self._nodes[node.tenant, node.device]
        for waiting in node.calls.values():
            if not waiting.done():
                waiting.set_exception(Unavailable("The node went away before it answered."))
        self._hub.publish(tenant, "node.disconnected", {"nodeId": node.device})
