"""What a platform is to the rest of this room: one file behind these protocols for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from carrel.channels.inbound import Batch, Chat
from carrel.declare.channels import ChannelsConfig
from carrel.errors import CarrelError
from carrel.secrets import Secret


class ChannelError(CarrelError):
    """A platform refused or failed. ``retry_after`` is in seconds, where the platform says so.

    The message never holds a credential, nor the address that was asked: at some platforms that has one in it.
    """

    code = "channel_failed"

    def __init__(self, message: str, *, retryable: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Identity:
    """Who an account is at its platform: its number, and the name that people mention it by."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a platform is to call, and what it proves itself by."""

    url: str
    secret: Secret


class Proof(Protocol):
    """Judges whether a call of a webhook comes from the platform."""

    def __call__(self, headers: Mapping[str, Sequence[str]], body: bytes) -> bool:
        """``headers`` by lower-case name. Takes the same time whatever is wrong."""
        ...


class Link(Protocol):
    """One account at its platform. Every method raises ChannelError."""

    async def connect(self, hook: Hook | None) -> Identity:
        """Say how messages are to come; who the account is."""
        ...

    async def identify(self) -> Identity:
        """Who the account is."""
        ...

    async def receive(self, number: int | None) -> Batch:
        """Wait for messages from ``number`` on; those before it are confirmed. An empty batch after a while."""
        ...

    def read(self, body: bytes) -> Batch:
        """What a webhook was called with; raises InvalidRequest."""
        ...

    def proof(self, secret: Secret) -> Proof:
        """What judges calls of the webhook; raises ChannelError for a secret that cannot be one."""
        ...

    def pieces(self, text: str) -> Sequence[str]:
        """``text`` as messages that are not too long; none where there is nothing in it."""
        ...

    async def send(self, chat: Chat, text: str, *, answers: str | None = None) -> None:
        """Say one piece, as the answer to a message in a group."""
        ...

    async def typing(self, chat: Chat) -> None:
        """Show that an answer is being written, for a few seconds."""
        ...

    async def disconnect(self) -> None:
        """Take the webhook back."""
        ...


class Platform(Protocol):
    """A messaging platform."""

    label: str
    typing_seconds: float
    manner: str
    """What an agent is told of it."""

    def link(self, shared: ChannelsConfig, token: Secret) -> Link:
        """An account, by its token; nothing is asked yet. Raises ChannelError for what cannot be one."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
