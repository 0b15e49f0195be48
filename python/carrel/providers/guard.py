"""What stands before every call of a provider, whichever way it goes: its circuit, and a fair share of its places.

The places are one provider's for all; a circuit is one key's, so that a tenant's own bad key is nobody else's affair.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from carrel.clock import Clock
from carrel.declare.gateway import ProviderConfig
from carrel.errors import UpstreamAuth, UpstreamError, UpstreamTimeout
from carrel.ids import TenantId
from carrel.providers.circuit import Circuit
from carrel.providers.fair import FairQueue
from carrel.tenancy.handle import Tenant

MOST_CIRCUITS: Final = 4096
GAUGES: Final = {
    "carrel_provider_calls": ("Calls at model providers, running and waiting.", ("provider", "state")),
    "carrel_provider_circuit": ("The state that a provider's circuit is in, as 1.", ("provider", "state")),
}
_OURS: Final = frozenset({"no_key", "circuit_open"})


class CircuitOpen(UpstreamError):
    """The provider failed so often that nobody asks it for a moment."""

    code = "provider_unavailable"


def counts_as_failure(error: BaseException) -> bool:
    """Whether ``error`` says that the provider does not work, and not that it refused this one request."""
    if not isinstance(error, UpstreamError) or error.details.get("reason") in _OURS:
        return False
    if isinstance(error, UpstreamTimeout | UpstreamAuth) or error.status is None:
        return True
    return error.status >= 500 or error.status == 408


class Ticket:
    """One call that was let through. `end` it once, with what it raised."""

    __slots__ = ("_circuit", "_config", "_queue", "_tenant")

    def __init__(self, queue: FairQueue, circuit: Circuit, config: ProviderConfig, tenant: TenantId) -> None:
        self._queue = queue
        self._circuit = circuit
        self._config = config
        self._tenant = tenant

    def end(self, error: BaseException | None = None) -> None:
        """The call is over."""
        self._queue.leave(self._tenant)
        if error is None:
            self._circuit.succeeded(self._config.circuit)
        elif counts_as_failure(error):
            self._circuit.failed(self._config.circuit)
        else:
            self._circuit.left()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a provider stands with the operator's key, and how many calls of all keys run and wait."""

    name: str
    circuit: str
    running: int
    waiting: int
    failures: int
    opened: int


class Guard:
    """One instance, made by the composition root."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queues: dict[str, FairQueue] = {}
        self._circuits: dict[tuple[str, str], Circuit] = {}

    def has_room(self, tenant: Tenant, name: str, config: ProviderConfig) -> bool:
        """Whether a call of provider ``name`` would be let through without waiting for a place."""
        return self._queue(name, config).has_room(tenant.id)

    def enter_now(self, tenant: Tenant, name: str, config: ProviderConfig) -> Ticket | None:
        """Let a call of provider ``name`` through where that takes no waiting; raises CircuitOpen."""
        queue = self._queue(name, config)
        if not queue.enter_now(tenant.id):
            return None
        return self._admitted(queue, tenant, name, config)

    async def enter(self, tenant: Tenant, name: str, config: ProviderConfig) -> Ticket:
        """The same, waiting for a place; raises CircuitOpen, UpstreamTimeout, RateLimited."""
        queue = self._queue(name, config)
        await queue.enter(tenant.id, provider=name, seconds=min(config.first_byte_seconds, config.timeout_seconds))
        return self._admitted(queue, tenant, name, config)

    def report(self) -> Sequence[Standing]:
        """Every provider that was called."""
        return [
            Standing(name, circuit.state, queue.running, queue.waiting, circuit.failures, circuit.opened)
            for name, queue in sorted(self._queues.items())
            for circuit in [self._circuits.get(("", name)) or Circuit(self._clock)]
        ]

    def gauges(self) -> Mapping[str, Mapping[tuple[str, ...], float]]:
        """The same as numbers, by metric and labels."""
        told = self.report()
        calls: dict[tuple[str, ...], float] = {(one.name, "running"): float(one.running) for one in told}
        calls |= {(one.name, "waiting"): float(one.waiting) for one in told}
        states = ("closed", "open", "half_open")
        return {
            "carrel_provider_calls": calls,
            "carrel_provider_circuit": {
                (one.name, state): float(one.circuit == state) for one in told for state in states
            },
        }

    def _queue(self, name: str, config: ProviderConfig) -> FairQueue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = FairQueue(config.max_connections)
        queue.limit = config.max_connections
        return queue

    def _admitted(self, queue: FairQueue, tenant: Tenant, name: str, config: ProviderConfig) -> Ticket:
        owner = tenant.id if name in tenant.config.providers else ""
        circuit = self._circuits.get((owner, name))
        if circuit is None:
            if len(self._circuits) >= MOST_CIRCUITS:
                self._circuits.pop(next(iter(self._circuits)))
            circuit = self._circuits[owner, name] = Circuit(self._clock)
        wait = circuit.admit(config.circuit)
        if wait is None:
            return Ticket(queue, circuit, config, tenant.id)
        queue.leave(tenant.id)
        details: dict[str, Any] = {"reason": "circuit_open"}
        raise CircuitOpen(
            f"Provider {name!r} failed too often and is not asked for a moment; try again in {wait:.0f} s.",
            retry_after=wait, details=details,
        )  # fmt: skip
