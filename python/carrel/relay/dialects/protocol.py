"""What a dialect is to the relay: what is read of a request's body, what is put into it, where answers say their usage.

A class of fields is a dialect; an instance of it is one request in that dialect. Its path and kind of provider are the
class's own, so that whoever passes a call on needs nothing beside its fields.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Self

from carrel.declare.rate_card import Tier
from carrel.errors import InvalidRequest
from carrel.relay.observe import Seen, StreamObserver
from carrel.relay.said import KEPT, tokens_in
from carrel.relay.splice import replace_members

UNBOUNDED: Final = 1 << 20
"""So many images that a reservation takes the model's whole window."""


@dataclass(slots=True)
class Outgoing:
    """What goes upstream. ``plain`` is the body without what was spliced in for the stream's usage."""

    body: bytes
    plain: bytes
    hides_usage: bool


@dataclass(frozen=True, slots=True)
class OwnKeyOnly:
    """Why a request is served with the tenant's own key alone: with the operator's it would reach what is shared."""

    param: str
    reason: str

    def refusal(self) -> InvalidRequest:
        """What the caller is told."""
        return InvalidRequest(
            f"`{self.param}` is not served with the operator's key: {self.reason}", param=self.param,
            details={"reason": "own_key_only"},
        )  # fmt: skip


@dataclass(slots=True, kw_only=True)
class CallFields(ABC):
    """The fields of one request that the relay acts upon.

    ``images`` counts what may be larger for a model than its bytes, ``windows`` how often the model's window bounds
    the input. ``max_output`` is None where the caller named no limit. Nobody changes one; to have that enforced would
    cost each call as much as to make it.
    """

    kind: ClassVar[Literal["openai", "anthropic"]]
    path: ClassVar[str]
    """Where the vendor has it, below its base URL."""
    metered: ClassVar[bool] = True
    generates: ClassVar[bool] = True
    """Whether the answer is made of tokens; where it is not, its length says nothing of them."""

    text: ClassVar[re.Pattern[bytes]]
    """What finds the text in a whole answer, each piece of it once."""

    model: str
    stream: bool = False
    max_output: int | None = None
    choices: int = 1
    images: int = 0
    windows: int = 1
    own_key_only: OwnKeyOnly | None = None
    sound: str = ""
    """The field that sends sound or asks for some; empty where none does."""
    tier: Tier | None = None
    """The service tier that the caller asks for; None leaves it to the vendor."""
    written: Callable[[], Awaitable[None]] | None = None
    """Awaited when the call's row is written, before the caller sees the answer's end."""

    @classmethod
    @abstractmethod
    def read(cls, body: bytes) -> Self:
        """The fields of ``body``; raises InvalidRequest that names the one that cannot be used."""

    def outgoing(self, body: bytes, upstream: str | None, *, asks_usage: bool, byo: bool) -> Outgoing:
        """``body`` as the vendor gets it: ``upstream`` is its name for the model, None where it is the same."""
        if upstream is not None and upstream != self.model:
            body = replace_members(body, {"model": upstream})
        return Outgoing(body, body, hides_usage=False)

    @abstractmethod
    def observer(self, *, hide_usage: bool) -> StreamObserver:
        """Watches an answer's stream."""

    @abstractmethod
    def seen_in(self, body: bytes) -> Seen:
        """What a whole answer says."""

    @abstractmethod
    def seen_in_ends(self, front: bytes, back: bytes) -> Seen:
        """What the two ends of an answer say that is too long to be read whole."""

    def estimated_output(self, front: bytes, size: int, *, counted: bool = False) -> int:
        """About how many tokens an answer of ``size`` bytes is that begins with ``front``, for what is generated.

        ``counted``: its vendor counted something, so that there may be none.
        """
        return tokens_in(front[:KEPT], size, self.text, counted=counted) if self.generates else 0

    def passed(self, body: bytes) -> bytes:
        """A whole answer as its caller gets it, once `seen_in` has read it."""
        return body

    def apart(self) -> Self:
        """These fields for one of several calls for the same answer: what it finds is its own until it is taken."""
        return self

    def take(self, found: Self) -> None:  # noqa: B027 - most dialects find nothing
        """Take what the call that won has found, with fields of `apart`."""

    @abstractmethod
    def error_event(self, code: str, message: str) -> bytes:
        """The event that tells a stream's reader of an error."""

    @classmethod
    def forwarded(cls, headers: Mapping[str, str]) -> bytes:
        """The header lines for the vendor that are the caller's own."""
        return b""


def without_rates(param: str) -> OwnKeyOnly:
    """Why sound is not served where the operator has not said that the model's rates hold for it."""
    return OwnKeyOnly(param, "a vendor takes more for sound than for text, and this model has no rates for it.")


def dearer_tier() -> OwnKeyOnly:
    """Why a tier that costs more is not served where the rate card does not say how much."""
    return OwnKeyOnly("service_tier", "that tier costs more than the model's rates; leave it out.")
