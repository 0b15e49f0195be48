"""The neutral shape of a conversation with a model: what agents keep, and what providers translate from and to."""

from dataclasses import dataclass, field
from typing import Any, Literal

from carrel.declare.rate_card import Tier, TokenCounts


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image: base64 ``data`` with its media type, or a ``url``; one of the two."""

    media_type: str = "image/png"
    data: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Thinking:
    """A model's reasoning. ``signature`` is the vendor's proof, sent back unchanged; ``redacted`` holds opaque data."""

    text: str
    signature: str = ""
    redacted: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool. ``arguments`` is the JSON text as the model wrote it, valid or not."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back for the call ``call_id``: text, and pictures beside it."""

    call_id: str
    content: str
    is_error: bool = False
    images: tuple[Image, ...] = ()


Block = Text | Image | Thinking | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    """One message. Tool results are blocks of a ``user`` message, as Anthropic has it."""

    role: Literal["user", "assistant"]
    content: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as shown to a model: ``parameters`` is a JSON Schema object.

    ``strict``: the model's arguments hold to it by the vendor's force; None says nothing about it.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """The JSON Schema that the answer's text must hold to, by the vendor's force."""

    name: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model. ``model`` is the vendor's name for it. ``tool_choice``: auto, none, required or a name.

    ``extra`` holds fields of the vendor's own dialect, put into its request as they are. ``user`` identities and
    tenant ids are never in here: a tenant's id is never sent to a provider.
    """

    model: str
    messages: tuple[Message, ...]
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    max_tokens: int = 4096
    thinking: Literal["off", "low", "medium", "high"] = "off"
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    parallel_tool_calls: bool = True
    output_schema: OutputSchema | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """A piece of reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingProof:
    """The end of a block of reasoning, with the vendor's proof of it, or with opaque data in its place."""

    signature: str = ""
    redacted: str = ""


@dataclass(frozen=True, slots=True)
class ToolDelta:
    """A piece of a tool call's arguments. A call's first piece has all of its ``id`` and ``name`` already.

    A vendor's adapter may leave these out: the calls are in the Finished, whole.
    """

    id: str
    name: str
    arguments: str


StopReason = Literal["end", "tool_calls", "length", "stop_sequence", "refusal"]


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """What an agent takes of a request: the caller's messages, an addition to its prompt, and two limits.

    ``user`` is whom the caller says that it speaks for: it chooses a session among the caller's own, and no more.
    """

    messages: tuple[Message, ...]
    system: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a call: the whole assistant message, why it stopped, and what the vendor says it used.

    ``usage`` is None where the vendor reported none. ``counts`` in it are disjoint (see TokenCounts).
    """

    message: Message
    stop: StopReason
    usage: TokenCounts | None
    provider_request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """At which service tier the vendor says that it serves the call: before anything else, and again where it changes.

    It is for whoever meters the call, and goes no further: an answer that breaks off has no usage that would say it.
    """

    tier: Tier


ModelEvent = TextDelta | ThinkingDelta | ThinkingProof | ToolDelta | Finished
ProviderEvent = ModelEvent | Served
"""What an adapter gives."""
