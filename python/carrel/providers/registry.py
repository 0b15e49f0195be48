"""The providers of one gateway: found by name for a tenant, made when first used, kept while their configuration is.

A tenant's own key goes before the operator's. Adapters and their SDKs are imported at the first call of their kind, in
a thread: a gateway that never calls a vendor never pays for one.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from carrel.clock import Clock
from carrel.declare.base import SecretRef
from carrel.declare.gateway import ProviderConfig
from carrel.errors import NotFound, Unavailable, UpstreamError
from carrel.providers.demo import DemoProvider
from carrel.providers.guard import Guard
from carrel.providers.hedged import Hedge, patience
from carrel.secrets import Secret, SecretMissing, SecretStore
from carrel.tasks import Tasks
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire.conversation import ModelRequest, ProviderEvent

MAX_IDLE_SECONDS: Final = 600.0
MAX_OPEN: Final = 256


class Adapter(Protocol):
    """A provider whose stream can be closed."""

    @property
    def name(self) -> str:
        """The name it is declared under."""
        ...

    def stream(self, request: ModelRequest) -> AsyncGenerator[ProviderEvent, None]:
        """See `providers.protocol`."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...


@dataclass(frozen=True, slots=True)
class _Slot:
    """Whose key for which provider: at most one adapter is current for it. ``owner`` is empty for the operator."""

    owner: str
    provider: str


@dataclass(slots=True)
class _Entry:
    adapter: Adapter
    digest: str
    last_used: float
    calls: int = 0
    stale: bool = False


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a call needs: the configuration and the name of the key, which is ``owner``'s where it has one."""

    slot: _Slot
    config: ProviderConfig
    key: SecretRef | None
    owner: Tenant | None = None


class Providers:
    """Every provider that is in use. One instance, made by the composition root."""

    def __init__(
        self,
        *,
        secrets: SecretStore,
        clock: Clock,
        max_idle_seconds: float = MAX_IDLE_SECONDS,
        own: Callable[[Tenant, str], Secret] | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.guard = guard
        self._secrets = secrets
        self._own = own
        self._clock = clock
        self._max_idle = max_idle_seconds
        self._entries: dict[_Slot, _Entry] = {}
        self._retired: list[_Entry] = []
        self._lock = asyncio.Lock()
        self._closed = False
        self._hedges = Tasks("hedges")

    def get(self, snapshot: Snapshot, tenant: Tenant, provider_name: str) -> "LeasedProvider":
        """The provider of that name with the tenant's own key, or else the operator's. Cheap, and does no I/O.

        Raises NotFound where none is declared. A missing key is an UpstreamError of the call.
        """
        config = snapshot.gateway.providers.get(provider_name)
        if config is None:
            raise NotFound(f"No provider is called {provider_name!r}.")
        own = tenant.config.providers.get(provider_name)
        slot = _Slot(tenant.id if own is not None else "", provider_name)
        if own is not None:
            return LeasedProvider(self, _Wanted(slot, config, own.api_key, tenant), tenant)
        return LeasedProvider(self, _Wanted(slot, config, config.api_key), tenant)

    def hedge(self, snapshot: Snapshot, tenant: Tenant, model: str) -> Hedge | None:
        """How a call of ``model`` is made once more where it does not begin; None where it is not."""
        after, guard = patience(snapshot, tenant, model), self.guard
        if after is None or guard is None:
            return None
        name = snapshot.gateway.models[model].provider
        config = snapshot.gateway.providers[name]
        return Hedge(after, lambda: guard.has_room(tenant, name, config), self._hedges)

    @property
    def open_count(self) -> int:
        """How many adapters are open, those that only finish their calls included."""
        return len(self._entries) + len(self._retired)

    @asynccontextmanager
    async def lease(self, wanted: _Wanted) -> AsyncIterator[Adapter]:
        """The adapter for ``wanted``, not closed while the lease lasts."""
        key = await self._key(wanted)
        async with self._lock:
            if self._closed:
                raise Unavailable("The gateway is stopping; try again in a moment.")
            entry = await self._entry(wanted, key)
            entry.calls += 1
        try:
            yield entry.adapter
        finally:
            entry.calls -= 1
            entry.last_used = self._clock.monotonic()
            await self._close_done(entry)

    async def sweep(self) -> None:
        """Close what was idle for too long. Called at each new adapter; a gateway may call it now and then."""
        oldest = self._clock.monotonic() - self._max_idle
        idle = [s for s, e in self._entries.items() if e.calls == 0 and e.last_used < oldest]
        for slot in idle:
            await self._retire(slot)

    async def close(self) -> None:
        """Close all adapters; calls that still run end with an error."""
        async with self._lock:
            self._closed = True
            entries = [*self._entries.values(), *self._retired]
            self._entries.clear()
            self._retired.clear()
        await self._hedges.close()
        for entry in entries:
            await entry.adapter.close()

    async def _key(self, wanted: _Wanted) -> Secret | None:
        if wanted.key is None:
            return None
        try:
            if wanted.owner is not None and self._own is not None:
                return await asyncio.to_thread(self._own, wanted.owner, wanted.key.secret)
            return await asyncio.to_thread(self._secrets.get, wanted.key.secret)
        except SecretMissing as error:
            raise UpstreamError(
                f"Provider {wanted.slot.provider!r} cannot be used: {error.message}", details={"reason": "no_key"}
            ) from None

    async def _entry(self, wanted: _Wanted, key: Secret | None) -> _Entry:
        digest = _digest(wanted.config, key)
        entry = self._entries.get(wanted.slot)
        if entry is not None and entry.digest == digest:
            entry.last_used = self._clock.monotonic()
            return entry
        await self._retire(wanted.slot)
        await self.sweep()
        while len(self._entries) >= MAX_OPEN:
            await self._retire(min(self._entries, key=lambda slot: self._entries[slot].last_used))
        adapter = await asyncio.to_thread(_make, wanted.slot.provider, wanted.config, key, self._clock)
        entry = self._entries[wanted.slot] = _Entry(adapter, digest, self._clock.monotonic())
        return entry

    async def _retire(self, slot: _Slot) -> None:
        """Take the slot's adapter out of use; it closes now, or with the last of its calls."""
        entry = self._entries.pop(slot, None)
        if entry is not None:
            entry.stale = True
            self._retired.append(entry)
            await self._close_done(entry)

    async def _close_done(self, entry: _Entry) -> None:
        if entry.stale and entry.calls == 0 and entry in self._retired:
            self._retired.remove(entry)
            await entry.adapter.close()


class LeasedProvider:
    """One provider as one tenant calls it: it looks its key and connections up anew at each call."""

    def __init__(self, registry: Providers, wanted: _Wanted, tenant: Tenant) -> None:
        self._registry = registry
        self._wanted = wanted
        self._tenant = tenant

    @property
    def name(self) -> str:
        return self._wanted.slot.provider

    @property
    def byo(self) -> bool:
        """Whether it goes out with the tenant's own key."""
        return bool(self._wanted.slot.owner)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ProviderEvent, None]:
        """The answer piece by piece; see `providers.protocol`. What is no vendor has no places to share out."""
        guard, config = self._registry.guard, self._wanted.config
        ticket = None
        if guard is not None and config.kind != "demo":
            ticket = await guard.enter(self._tenant, self.name, config)
        failure: BaseException | None = None
        try:
            async with self._registry.lease(self._wanted) as adapter, aclosing(adapter.stream(request)) as events:
                async for event in events:
                    yield event
        except BaseException as error:
            failure = error
            raise
        finally:
            if ticket is not None:
                ticket.end(failure)

    async def close(self) -> None:
        """Nothing: connections belong to the registry."""


def _digest(config: ProviderConfig, key: Secret | None) -> str:
    digest = hashlib.sha256(config.model_dump_json().encode())
    if key is not None:
        digest.update(hashlib.sha256(key.reveal().encode()).digest())
    return digest.hexdigest()


def _make(name: str, config: ProviderConfig, key: Secret | None, clock: Clock) -> Adapter:
    """The adapter of the configured kind. Runs in a thread, for it imports."""
    if config.kind == "anthropic":
        from carrel.providers.anthropic import AnthropicProvider  # noqa: PLC0415 - imported at first use

        return AnthropicProvider(name, config, key=key, clock=clock)
    if config.kind == "openai":
        from carrel.providers.openai import OpenAIProvider  # noqa: PLC0415 - imported at first use

        return OpenAIProvider(name, config, key=key, clock=clock)
    return DemoProvider(name)
