"""The neutral shape of a conversation with a model: what agents keep, and what providers translate from and to."""

from dataclasses import dataclass, field
from typing import Any, Literal

from carrel.declare.rate_card import TokenCounts


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
    """What a tool gave back for the call ``call_id``."""

    call_id: str
    content: str
    is_error: bool = False


Block = Text | Image | Thinking | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    """One message. Tool results are blocks of a ``user`` message, as Anthropic has it."""

    role: Literal["user", "assistant"]
    content: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as shown to a model: ``parameters`` is a JSON Schema object."""

    name: str
    description: str
    parameters: dict[str, Any]


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
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """A piece of reasoning."""

    text: str


StopReason = Literal["end", "tool_calls", "length", "stop_sequence", "refusal"]


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a call: the whole assistant message, why it stopped, and what the vendor says it used.

    ``usage`` is None where the vendor reported none. ``counts`` in it are disjoint (see TokenCounts).
    """

    message: Message
    stop: StopReason
    usage: TokenCounts | None
    provider_request_id: str | None = None


ModelEvent = TextDelta | ThinkingDelta | Finished
