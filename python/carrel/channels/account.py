"""One account that runs: connected, asked for its messages or called with them, and tried again where that fails."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from carrel.channels import book
from carrel.channels.answering import Answering, Means
from carrel.channels.inbound import Batch, Chat
from carrel.channels.people import Asking
from carrel.channels.protocol import ChannelError, Hook, Identity, Link, Platform, Proof
from carrel.declare.channels import Channel, ChannelAccount, ChannelsConfig
from carrel.errors import CarrelError, Unavailable
from carrel.secrets import Secret
from carrel.tenancy.handle import Tenant

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 300.0
FULL_PAUSE: Final = 1.0
_log = structlog.get_logger(__name__)


class Secrets(Protocol):
    """A tenant's secrets."""

    async def get(self, tenant: Tenant, name: str) -> Secret:
        """One by name; raises SecretMissing."""
        ...


@dataclass(frozen=True, slots=True)
class Spec:
    """What an account is run by: where any of it changes, it is another run."""

    tenant: Tenant
    name: str
    account: str
    channel: Channel
    shared: ChannelsConfig

    @property
    def key(self) -> str:
        """The account within its tenant."""
        return f"{self.name}/{self.account}"

    @property
    def declared(self) -> ChannelAccount:
        """The account as declared."""
        return self.channel.accounts[self.account]

    def is_same(self, other: "Spec") -> bool:
        """Whether an account that runs by ``other`` runs by this one too."""
        return (self.tenant.root is other.tenant.root) and (self.channel, self.shared) == (other.channel, other.shared)


@dataclass(frozen=True, slots=True)
class Tells:
    """Whom an account tells: that it stands otherwise, and that somebody asks to be let in."""

    changed: Callable[["Account"], None]
    asked: Callable[["Account", Asking], None]


class Account:
    """See the module. ``run`` it as a task; cancel that to stop it."""

    def __init__(self, spec: Spec, means: Means, platform: Platform, *, secrets: Secrets, tells: Tells) -> None:
        self.spec = spec
        self.identity: Identity | None = None
        self.connected = False
        self.error: str | None = None
        self.settled = asyncio.Event()
        """Set once it is known whether it can be connected."""
        self.proof: Proof | None = None
        self._means = means
        self._platform = platform
        self._secrets = secrets
        self._tells = tells
        self._link: Link | None = None
        self._place = ""
        self._answering: Answering | None = None
        self._failures = 0

    async def run(self) -> None:
        """Until cancelled. A failure is told, and tried again after a while."""
        try:
            while True:
                try:
                    await self._serve()
                except CarrelError as error:
                    await self._failed(error)
        finally:
            await self._let_go()

    async def probe(self) -> Identity:
        """Ask the platform who the account is; raises ChannelError."""
        link = self._link or await self._make_link()
        return await link.identify()

    async def take(self, batch: Batch) -> None:
        """Keep what came; when this returns it is on the disk. Raises Unavailable where too much waits."""
        if self._answering is None:
            raise Unavailable("The account is not connected yet.")
        if batch.messages and await self._waiting() >= book.MOST_WAITING:
            raise Unavailable("Too many messages wait.")
        spec, now, place = self.spec, self._means.clock.now(), self._place
        taken = await self._means.databases.run(
            spec.tenant, lambda c: book.take_in(c, spec.key, place, spec.channel, batch, now=now)
        )
        if taken.kept:
            counts = self._means.counts
            counts.channel_message(spec.tenant.id, channel=spec.name, outcome="taken", count=taken.kept)
        for asking in taken.asked:
            self._tells.asked(self, asking)
        self._answering.wake(taken.chats)

    async def called(self, body: bytes) -> None:
        """Take what a webhook was called with, by who gave the proof. Raises InvalidRequest, Unavailable."""
        if self._link is None:
            raise Unavailable("The account is not connected yet.")
        await self.take(self._link.read(body))

    def proves(self, headers: Mapping[str, Sequence[str]], body: bytes) -> bool:
        """Whether a call of the webhook is the platform's, for this account."""
        return self.proof is not None and self.proof(headers, body)

    async def say(self, chat: Chat, text: str) -> None:
        """Say ``text`` by itself, where it is connected; raises ChannelError."""
        if self._link is not None:
            await self._link.send(chat, text)

    async def disconnect(self) -> None:
        """Take a webhook back, where that can be done."""
        with contextlib.suppress(CarrelError):
            link = self._link or await self._make_link()
            await link.disconnect()

    async def _serve(self) -> None:
        """Connect, and go on until something fails."""
        link, hook = await self._make_link(), await self._hook()
        identity = await link.connect(hook)
        await self._note(linked=True, bot=identity.id, name=identity.name, last_error=None)
        await self._go_on(link, identity)
        self.proof = link.proof(hook.secret) if hook is not None else None
        self._stands(connected=True, error=None)
        if hook is not None:
            self._failures = 0
            await asyncio.Event().wait()
        while True:
            await self._receive(link)

    async def _go_on(self, link: Link, identity: Identity) -> None:
        """Answer by ``link`` from here on; what is being answered goes on, unless it is another bot by now."""
        place, spec = f"{self.spec.key}@{identity.id}", self.spec
        if self._answering is not None and place != self._place:
            await self._answering.close()
            self._answering = None
        self._link, self.identity, self._place = link, identity, place
        if self._answering is not None:
            self._answering.link = link
            return
        self._answering = Answering(
            self._means, spec.tenant, account=spec.key, place=place, channel=spec.channel, link=link,
            platform=self._platform, told=self._noted,
        )  # fmt: skip
        await self._answering.resume()

    async def _receive(self, link: Link) -> None:
        while await self._waiting() >= book.MOST_WAITING:
            await self._means.clock.sleep(FULL_PAUSE)
        place = self._place
        after = await self._means.databases.run(self.spec.tenant, lambda c: book.following(c, place))
        batch = await link.receive(after)
        if self._failures or not self.connected:
            self._failures = 0
            self._stands(connected=True, error=None)
        if batch.following is not None:
            await self.take(batch)

    async def _waiting(self) -> int:
        place = self._place
        return await self._means.databases.run(self.spec.tenant, lambda c: book.waiting(c, place))

    async def _make_link(self) -> Link:
        token = await self._secrets.get(self.spec.tenant, self.spec.declared.token.secret)
        return self._platform.link(self.spec.shared, token)

    async def _hook(self) -> Hook | None:
        declared = self.spec.declared
        if declared.delivery != "webhook":
            return None
        if declared.webhook_secret is None or self.spec.shared.public_url is None:
            raise ChannelError("A webhook needs `webhook_secret`, and `channels.public_url` of the gateway.")
        url = f"{self.spec.shared.public_url}/hooks/{self.spec.tenant.id}/{self.spec.name}"
        return Hook(url, await self._secrets.get(self.spec.tenant, declared.webhook_secret.secret))

    async def _failed(self, error: CarrelError) -> None:
        self._failures += 1
        # What is being answered goes on: that messages do not come is no reason to end a turn.
        self.proof, self._link = None, None
        if error.message != self.error:
            _log.warning(
                "a channel's account fails", tenant=self.spec.tenant.id, account=self.spec.key, code=error.code,
                reason=error.message,
            )  # fmt: skip
        self._stands(connected=False, error=error.message)
        with contextlib.suppress(CarrelError):
            await self._note(last_error=error.message)
        wait = error.retry_after if isinstance(error, ChannelError) and error.retry_after is not None else 0.0
        pause = min(FIRST_PAUSE * 2 ** min(self._failures - 1, 20), LONGEST_PAUSE)
        # What only a person can mend is looked at now and then: a token in a file may be another by then.
        await self._means.clock.sleep(max(wait, pause if error.retryable else LONGEST_PAUSE))

    async def _let_go(self) -> None:
        self.proof = None
        self.connected = False
        answering, self._answering = self._answering, None
        self._link = None
        if answering is not None:
            await answering.close()

    def _stands(self, *, connected: bool, error: str | None) -> None:
        changed = (connected, error) != (self.connected, self.error) or not self.settled.is_set()
        self.connected, self.error = connected, error
        self.settled.set()
        if changed:
            self._tells.changed(self)

    def _noted(self, problem: str | None) -> None:
        """A message had no answer, or an answer was not sent: the account itself goes on."""
        self.error = problem
        self._tells.changed(self)

    async def _note(self, **changes: Any) -> None:
        key = self.spec.key
        await self._means.databases.run(self.spec.tenant, lambda c: book.note(c, key, **changes))
