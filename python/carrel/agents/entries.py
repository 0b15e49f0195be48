"""The lines of a transcript. Format version 1: JSON objects, one a line, told apart by ``type``; the first is a header.

Ids grow from line to line within a file; ``ts`` is the wall time of writing. Unknown types and keys are refused, so a
change of the format is a new version.
"""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from carrel.declare.rate_card import TokenCounts
from carrel.policy.calls import Outcome
from carrel.wire.conversation import Block, Image, Message, StopReason, Text, Thinking, ToolCall, ToolResult

VERSION: Final[Literal[1]] = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Stored(BaseModel):
    # What was said is said once: kept for the next time, it would only be in memory, and for long.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True, cache_strings="keys")


class StoredText(_Stored):
    """`Text`."""

    type: Literal["text"] = "text"
    text: str


class StoredImage(_Stored):
    """`Image`."""

    type: Literal["image"] = "image"
    media_type: str
    data: str = ""
    url: str = ""


class StoredThinking(_Stored):
    """`Thinking`."""

    type: Literal["thinking"] = "thinking"
    text: str
    signature: str = ""
    redacted: str = ""


class StoredToolCall(_Stored):
    """`ToolCall`."""

    type: Literal["tool_call"] = "tool_call"
    call_id: str
    name: str
    arguments: str


class StoredToolResult(_Stored):
    """`ToolResult`, as a caller brought it along; what our own tools give are lines of their own."""

    type: Literal["tool_result"] = "tool_result"
    call_id: str
    content: str
    is_error: bool = False


StoredBlock = Annotated[
    StoredText | StoredImage | StoredThinking | StoredToolCall | StoredToolResult, Field(discriminator="type")
]


class Header(_Stored):
    """The first line. ``key`` is what a caller or a channel knows the session by."""

    type: Literal["session"] = "session"
    version: Literal[1] = VERSION
    id: str
    agent: str
    created: AwareDatetime
    label: str | None = None
    key: str | None = None


class _Line(_Stored):
    """What every line after the header has; both are set when it is written."""

    id: int = 0
    ts: AwareDatetime = _EPOCH


class MessageEntry(_Line):
    """A message. ``provider`` and ``model`` said it; ``interrupted``: it was cut off and is what came until then."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant"]
    content: tuple[StoredBlock, ...]
    request_id: str | None = None
    provider: str | None = None
    model: str | None = None
    interrupted: bool = False


class ModelCallEntry(_Line):
    """A model call and what it used; the bill is the ledger's affair."""

    type: Literal["model_call"] = "model_call"
    request_id: str
    purpose: Literal["turn", "compaction"]
    model: str
    provider: str
    outcome: Outcome
    stop: StopReason | None = None
    usage: TokenCounts
    estimated: bool = False
    provider_request_id: str | None = None
    seconds: float = 0.0


class ToolCallEntry(_Line):
    """A tool call begins. Its arguments are in the message before."""

    type: Literal["tool_call"] = "tool_call"
    call_id: str
    name: str


class ToolResultEntry(_Line):
    """A tool call's result as the model reads it."""

    type: Literal["tool_result"] = "tool_result"
    call_id: str
    name: str
    content: str
    is_error: bool = False
    seconds: float = 0.0


class CompactionEntry(_Line):
    """From here on ``summary`` stands for what was before the line ``keep_from``."""

    type: Literal["compaction"] = "compaction"
    summary: str
    keep_from: int
    tokens_before: int
    model: str | None = Field(None, description="Who wrote it; None where it is an excerpt.")


class ResetEntry(_Line):
    """The conversation begins anew after this line."""

    type: Literal["reset"] = "reset"


class ErrorEntry(_Line):
    """A turn ended with an error."""

    type: Literal["error"] = "error"
    code: str
    message: str
    request_id: str | None = None


class NoteEntry(_Line):
    """A word on the file itself. ``line`` cannot be read; ``torn`` is the base64 of a last line that was cut off."""

    type: Literal["note"] = "note"
    text: str
    line: int | None = None
    torn: str | None = None


Entry = (
    MessageEntry
    | ModelCallEntry
    | ToolCallEntry
    | ToolResultEntry
    | CompactionEntry
    | ResetEntry
    | ErrorEntry
    | NoteEntry
)
_ENTRY: Final[TypeAdapter[Entry]] = TypeAdapter(
    Annotated[Entry, Field(discriminator="type")], config=ConfigDict(cache_strings="keys")
)


def parse_entry(line: bytes) -> Entry:
    """The entry in ``line``; raises ValueError (pydantic's, too) where it is none."""
    return _ENTRY.validate_json(line)


def encode(line: Header | Entry) -> bytes:
    """``line`` as it is written, its line end included."""
    return line.model_dump_json(exclude_none=True).encode() + b"\n"


def stored(message: Message) -> tuple[StoredBlock, ...]:
    """The blocks of ``message`` as they are kept."""
    return tuple(_store(block) for block in message.content)


def restored(entry: MessageEntry) -> Message:
    """The message that ``entry`` keeps."""
    return Message(entry.role, tuple(_restore(block) for block in entry.content))


def _store(block: Block) -> StoredBlock:
    match block:
        case Text(text):
            return StoredText(text=text)
        case Image(media_type, data, url):
            return StoredImage(media_type=media_type, data=data, url=url)
        case Thinking(text, signature, redacted):
            return StoredThinking(text=text, signature=signature, redacted=redacted)
        case ToolCall(call_id, name, arguments):
            return StoredToolCall(call_id=call_id, name=name, arguments=arguments)
        case ToolResult(call_id, content, is_error):
            return StoredToolResult(call_id=call_id, content=content, is_error=is_error)


def _restore(block: StoredBlock) -> Block:
    match block:
        case StoredText():
            return Text(block.text)
        case StoredImage():
            return Image(block.media_type, block.data, block.url)
        case StoredThinking():
            return Thinking(block.text, block.signature, block.redacted)
        case StoredToolCall():
            return ToolCall(block.call_id, block.name, block.arguments)
        case StoredToolResult():
            return ToolResult(block.call_id, block.content, block.is_error)
