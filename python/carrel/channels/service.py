"""The channels of all tenants: follows what is declared, runs its accounts, and does what people ask of them.

An account runs where its tenant, its channel and itself are on and nobody stopped it. One that fails is tried again by
itself and is nobody else's affair.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import structlog

from carrel.channels import book, people
from carrel.channels.account import Account, Secrets, Spec, Tells
from carrel.channels.answering import Counts, Means, Speaks
from carrel.channels.book import Standing
from carrel.channels.people import Asking, Person
from carrel.channels.protocol import Identity, Platform
from carrel.channels.telegram import SecretHeader
from carrel.clock import Clock
from carrel.declare.channels import Channel
from carrel.errors import CarrelError, NotFound
from carrel.events.hub import Hub
from carrel.ids import TenantId, new_request_id
from carrel.store.tenants import TenantDatabases
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Tenant
from carrel.wire.control import Actor

SETTLE_SECONDS: Final = 10.0
"""How long a start waits to say whether the account could be connected."""
_NOBODYS: Final = SecretHeader("nobody's")
_log = structlog.get_logger(__name__)
_Key = tuple[TenantId, str, str]
State = Literal["connected", "connecting", "failing", "off"]
"""How an account stands. ``off``: its tenant, its channel or itself is, or somebody stopped it."""


class Record(Protocol):
    """The audit log."""

    async def record(
        self, *, actor: str, action: str, target: str, request_id: str, outcome: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> None:  # fmt: skip
        """Add one line."""
        ...

    def change(
        self, *, actor: str, action: str, target: str, request_id: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> contextlib.AbstractAsyncContextManager[None]:  # fmt: skip
        """Make a change within it: its one line says how it ended. Raises StorageFull where none could be kept."""
        ...


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """How one account stands. ``running``: it is tried; ``connected``: it gets messages."""

    channel: str
    account: str
    declared: Channel
    enabled: bool
    running: bool
    connected: bool
    error: str | None
    standing: Standing
    probe: Identity | str | None = None


@dataclass(eq=False, slots=True)
class _Running:
    account: Account
    task: "asyncio.Task[None]"


class Channels:
    """One instance, made by the composition root. ``run`` it for as long as the gateway serves."""

    def __init__(
        self, *, directory: Directory, clock: Clock, tasks: Tasks, hub: Hub, audit: Record, speak: Speaks,
        secrets: Secrets, platforms: Mapping[str, Platform], counts: Counts,
    ) -> None:  # fmt: skip
        self._directory = directory
        self._clock = clock
        self._tasks = tasks
        self._hub = hub
        self._audit = audit
        self._secrets = secrets
        self._platforms = platforms
        self._databases = TenantDatabases(directory="channels", name="channels.sqlite", schema=book.upgrade)
        self._means = Means(directory, self._databases, clock, tasks, speak, counts)
        self._tells = Tells(self._changed, self._asked)
        self._running: dict[_Key, _Running] = {}
        self._moving = asyncio.Lock()

    async def run(self) -> None:
        """Follow what is declared until cancelled."""
        wake = asyncio.Event()
        self._directory.follow(wake.set)
        while True:
            wake.clear()
            async with self._moving:
                await self._follow()
            await wake.wait()

    async def close(self) -> None:
        """Stop every account; stop ``run`` first."""
        async with self._moving:
            await self._stop(tuple(self._running))
        for platform in self._platforms.values():
            await platform.close()
        await self._databases.close()

    # --- what is asked for ---

    async def status(
        self, tenant: Tenant, channel: str | None = None, *, probe: bool = False, seconds: float = SETTLE_SECONDS
    ) -> Sequence[AccountStatus]:
        """How the tenant's accounts stand, or those of one channel; ``probe`` asks each platform too."""
        if channel is not None:
            _channel(tenant, channel)
        chosen = [spec for spec in self._specs(tenant) if channel in (None, spec.name)]
        asked = chosen if probe else []
        found = await asyncio.gather(*(self._probe(spec, seconds) for spec in asked))
        said = dict(zip((spec.key for spec in asked), found, strict=True))
        return [await self._status(spec, said.get(spec.key)) for spec in chosen]

    def connected(self, tenant: Tenant) -> Mapping[str, bool]:
        """The tenant's channels, and whether an account of each is connected now. Looks at nothing on the disk."""
        live = {key[1] for key, one in self._running.items() if key[0] == tenant.id and one.account.connected}
        return {name: name in live for name in tenant.config.channels}

    def standing(self) -> Iterator[tuple[TenantId, str, str, State, str]]:
        """Tenant, channel, account, how it stands and why, of every account that is declared. Not from the disk."""
        for tenant in self._directory.current.tenants.values():
            for spec in self._specs(tenant):
                running = self._running.get((tenant.id, spec.name, spec.account))
                if running is None:
                    yield tenant.id, spec.name, spec.account, "off", ""
                    continue
                account = running.account
                state: State = "connected" if account.connected else "failing" if account.error else "connecting"
                yield tenant.id, spec.name, spec.account, state, account.error or ""

    async def start(self, tenant: Tenant, channel: str, account: str | None) -> Sequence[AccountStatus]:
        """Run accounts that were stopped, and try anew those that run; how they then stand."""
        chosen = _accounts(tenant, channel, account)
        async with self._moving:
            await self._stop([(tenant.id, channel, name) for name in chosen])
            for name in chosen:
                await self._note(tenant, f"{channel}/{name}", stopped=False)
            await self._follow()
        for name in chosen:
            running = self._running.get((tenant.id, channel, name))
            if running is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(running.account.settled.wait(), SETTLE_SECONDS)
        return await self._of(tenant, channel, chosen)

    async def stop(self, tenant: Tenant, channel: str, account: str | None) -> Sequence[AccountStatus]:
        """Stop accounts, until they are started; also over a restart of the gateway."""
        chosen = _accounts(tenant, channel, account)
        async with self._moving:
            for name in chosen:
                await self._note(tenant, f"{channel}/{name}", stopped=True)
            await self._stop([(tenant.id, channel, name) for name in chosen])
        self._tell(tenant, channel, chosen, "stopped")
        return await self._of(tenant, channel, chosen)

    async def logout(self, tenant: Tenant, channel: str, account: str | None) -> Sequence[AccountStatus]:
        """Stop accounts, take their webhooks back and forget what waits; of a whole channel, who was let in too."""
        chosen = _accounts(tenant, channel, account)
        async with self._moving:
            for spec in self._specs(tenant):
                if spec.name == channel and spec.account in chosen:
                    running = self._running.get((tenant.id, channel, spec.account))
                    await (running.account if running is not None else self._make(spec)).disconnect()
            await self._stop([(tenant.id, channel, name) for name in chosen])
            for name in chosen:
                key = f"{channel}/{name}"
                await self._databases.run(tenant, lambda c, key=key: book.forget(c, key))  # type: ignore[misc] # a default that binds
            if account is None:
                await self._databases.run(tenant, lambda c: people.forget(c, channel))
        self._tell(tenant, channel, chosen, "logged out")
        return await self._of(tenant, channel, chosen)

    async def people(self, tenant: Tenant, channel: str) -> tuple[Sequence[Asking], Sequence[Person]]:
        """Who asks to be let in, and who was; raises NotFound."""
        _channel(tenant, channel)
        now = self._clock.now()
        return (
            await self._databases.run(tenant, lambda c: people.pending(c, channel, now=now)),
            await self._databases.run(tenant, lambda c: people.paired(c, channel)),
        )

    async def decide(self, tenant: Tenant, channel: str, code: str, *, approve: bool, by: Actor) -> Asking:
        """Let the one who has ``code`` in, who is told so, or do not; raises NotFound."""
        _channel(tenant, channel)
        now = self._clock.now()
        asked = await self._databases.run(tenant, lambda c: people.asking(c, channel, code, now=now))
        async with self._deciding(tenant, channel, asked.sender, "approve" if approve else "reject", by):
            asking = await self._databases.run(
                tenant, lambda c: people.decide(c, channel, code, approve=approve, by=by.name, now=now)
            )  # fmt: skip
        what = "approved" if approve else "rejected"
        self._hub.publish(tenant, "channels.pairing", {**_about(asking), "status": what})
        running = self._running.get((tenant.id, channel, asking.account.partition("/")[2]))
        if approve and running is not None:
            with contextlib.suppress(CarrelError):
                await running.account.say(asking.chat, "You were let in: write a message, and I answer.")
        return asking

    async def remove(self, tenant: Tenant, channel: str, sender: str, *, by: Actor) -> None:
        """Let somebody in no more; raises NotFound."""
        _channel(tenant, channel)
        async with self._deciding(tenant, channel, sender, "remove", by):
            await self._databases.run(tenant, lambda c: people.remove(c, channel, sender))
        self._hub.publish(tenant, "channels.pairing", {"channel": channel, "sender": sender, "status": "removed"})

    def called(self, tenant_id: str, channel: str, headers: Mapping[str, Sequence[str]], body: bytes) -> Account | None:
        """The account whose webhook is called, None where nothing proves that the platform calls.

        An unknown tenant, an unknown channel, one without a webhook and a wrong proof take the same steps.
        """
        found = None
        of_channel = [one.account for key, one in self._running.items() if key[:2] == (tenant_id, channel)]
        _NOBODYS(headers, body)
        for account in of_channel:
            if account.proves(headers, body):
                found = account
        return found

    # --- following ---

    async def _follow(self) -> None:
        """Stop what is not wanted as it runs, and start what is wanted and does not run."""
        wanted: dict[_Key, Spec] = {}
        for tenant in self._directory.current.tenants.values():
            if tenant.config.channels and tenant.ready and not tenant.suspended:
                wanted |= {(tenant.id, s.name, s.account): s for s in self._specs(tenant) if _is_on(s)}
        as_they_are = {key: one.account.spec for key, one in self._running.items()}
        await self._stop(
            [key for key, spec in as_they_are.items() if key not in wanted or not wanted[key].is_same(spec)]
        )
        for key, spec in wanted.items():
            if key not in self._running:
                await self._start(key, spec)

    async def _start(self, key: _Key, spec: Spec) -> None:
        try:
            standing = await self._databases.run(spec.tenant, lambda c: book.standing(c, spec.key))
        except CarrelError as error:
            _log.error("a channel's account cannot be started", tenant=spec.tenant.id, account=spec.key,
                       reason=error.message)  # fmt: skip
            return
        if standing.stopped:
            return
        account = self._make(spec)
        self._running[key] = _Running(account, self._tasks.start(account.run(), name="account"))

    async def _stop(self, keys: Sequence[_Key]) -> None:
        tasks = [self._running[key].task for key in keys if key in self._running]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for key in keys:
            self._running.pop(key, None)

    def _make(self, spec: Spec) -> Account:
        platform = self._platforms[spec.channel.kind]
        return Account(spec, self._means, platform, secrets=self._secrets, tells=self._tells)

    def _specs(self, tenant: Tenant) -> Iterator[Spec]:
        shared = self._directory.current.gateway.channels
        for name, channel in tenant.config.channels.items():
            for account in channel.accounts:
                yield Spec(tenant, name, account, channel, shared)

    # --- telling ---

    async def _of(self, tenant: Tenant, channel: str, accounts: Sequence[str]) -> Sequence[AccountStatus]:
        return [one for one in await self.status(tenant, channel) if one.account in accounts]

    async def _status(self, spec: Spec, probe: Identity | str | None) -> AccountStatus:
        standing = await self._databases.run(spec.tenant, lambda c: book.standing(c, spec.key))
        running = self._running.get((spec.tenant.id, spec.name, spec.account))
        live = running.account if running is not None and not running.task.done() else None
        return AccountStatus(
            channel=spec.name, account=spec.account, declared=spec.channel,
            enabled=_is_on(spec) and not spec.tenant.suspended, running=live is not None,
            connected=live is not None and live.connected,
            error=live.error if live is not None else standing.last_error, standing=standing, probe=probe,
        )  # fmt: skip

    async def _probe(self, spec: Spec, seconds: float) -> Identity | str:
        running = self._running.get((spec.tenant.id, spec.name, spec.account))
        account = running.account if running is not None else self._make(spec)
        try:
            async with asyncio.timeout(seconds):
                said: Identity | str = await account.probe()
        except TimeoutError:
            said = f"The platform did not answer in {seconds:g} s."
        except CarrelError as error:
            said = error.message
        await self._note(spec.tenant, spec.key, last_probe=self._clock.now())
        return said

    async def _note(self, tenant: Tenant, account: str, **changes: object) -> None:
        await self._databases.run(tenant, lambda c: book.note(c, account, **changes))

    def _changed(self, account: Account) -> None:
        about = {"connected": account.connected, "running": True, "lastError": account.error}
        spec = account.spec
        self._hub.publish(spec.tenant, "channels.changed", {"channel": spec.name, "accountId": spec.account, **about})

    def _tell(self, tenant: Tenant, channel: str, accounts: Sequence[str], why: str) -> None:
        for name in accounts:
            about = {"connected": False, "running": False, "reason": why}
            self._hub.publish(tenant, "channels.changed", {"channel": channel, "accountId": name, **about})

    def _asked(self, account: Account, asking: Asking) -> None:
        self._hub.publish(account.spec.tenant, "channels.pairing", {**_about(asking), "status": "requested"})
        self._tasks.start(self._note_asked(account, asking), name="audit")

    def _deciding(
        self, tenant: Tenant, channel: str, sender: str, decision: str, by: Actor
    ) -> contextlib.AbstractAsyncContextManager[None]:
        return self._audit.change(
            actor=by.name, action="channels.pair", target=channel, tenant=tenant.id, request_id=by.request_id,
            after={"sender": sender, "decision": decision},
        )  # fmt: skip

    async def _note_asked(self, account: Account, asking: Asking) -> None:
        try:
            await self._audit.record(
                actor=f"{account.spec.channel.kind}:{asking.sender}", action="channels.pair.ask", target=asking.channel,
                tenant=account.spec.tenant.id, request_id=new_request_id(), after={"name": asking.name}, outcome="ok",
            )  # fmt: skip
        except CarrelError as error:
            _log.error("a request to be let in is not in the audit log", tenant=account.spec.tenant.id,
                       reason=error.message)  # fmt: skip


def _is_on(spec: Spec) -> bool:
    return spec.channel.enabled and spec.declared.enabled


def _channel(tenant: Tenant, name: str) -> Channel:
    found = tenant.config.channels.get(name)
    if found is None:
        raise NotFound("There is no such channel; `channels.status` lists those that the operator declared.")
    return found


def _accounts(tenant: Tenant, channel: str, account: str | None) -> Sequence[str]:
    """The accounts that are meant; raises NotFound."""
    declared = tuple(_channel(tenant, channel).accounts)
    if account is not None and account not in declared:
        raise NotFound("That channel has no such account; `channels.status` lists them.")
    return declared if account is None else (account,)


def _about(asking: Asking) -> dict[str, str]:
    account = asking.account.partition("/")[2]
    return {"channel": asking.channel, "accountId": account, "sender": asking.sender, "name": asking.name}
