"""Anthropic's Messages, and its count of a request's tokens."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Self

from carrel.errors import InvalidRequest
from carrel.policy.estimate import likely
from carrel.relay.body import MAX_COUNT, count_in, messages_in, model_in, parse_body, stream_in
from carrel.relay.dialects.protocol import UNBOUNDED, CallFields, OwnKeyOnly
from carrel.relay.observe import ERROR, USAGE, Marks, Seen, StreamObserver, record_in, usage_in_ends
from carrel.relay.said import text_members
from carrel.wire.anthropic_answer import error_body
from carrel.wire.usage import tier_of, usage_from_anthropic

DEFAULT_VERSION: Final = "2023-06-01"
MAX_HEADER: Final = 2048
_HEADER: Final = re.compile(r"[A-Za-z0-9_.,;= -]+")
_PLAIN_BLOCKS: Final = frozenset(
    {"text", "tool_use", "thinking", "redacted_thinking", "search_result", "tool_reference"}
)  # fmt: skip
_OWN_TOOLS: Final = ("custom", "bash_", "text_editor_", "computer_", "memory_", "tool_search_tool_")
"""Kinds of tools that the caller runs itself, or that cost nothing but their tokens."""


@dataclass(slots=True, kw_only=True)
class MessagesFields(CallFields):
    """A message to be made."""

    kind: ClassVar[Literal["openai", "anthropic"]] = "anthropic"
    path: ClassVar[str] = "/v1/messages"
    text: ClassVar[re.Pattern[bytes]] = text_members("text", "thinking")

    @classmethod
    def read(cls, body: bytes) -> Self:
        value = parse_body(body)
        limit = count_in(value, "max_tokens", MAX_COUNT)
        if limit is None:
            raise InvalidRequest("`max_tokens` is missing: the most tokens of the answer.", param="max_tokens")
        return cls._from(value, stream=stream_in(value), max_output=limit)

    @classmethod
    def _from(cls, value: dict[str, Any], *, stream: bool, max_output: int | None) -> Self:
        model = model_in(value)
        messages = messages_in(value)
        own = _own_key_only(value, messages)
        return cls(
            model=model, stream=stream, max_output=max_output, own_key_only=own,
            images=UNBOUNDED if own is not None else _images(messages), tier=tier_of(value),
        )  # fmt: skip

    @classmethod
    def forwarded(cls, headers: Mapping[str, str]) -> bytes:
        lines = []
        for name, otherwise in (("anthropic-version", DEFAULT_VERSION), ("anthropic-beta", "")):
            value = ", ".join(_all(headers, name)) or otherwise
            if len(value) > MAX_HEADER or (value and not _HEADER.fullmatch(value)):
                raise InvalidRequest(f"The header {name} is malformed.", param=name)
            if value:
                lines.append(f"{name}: {value}\r\n")
        return "".join(lines).encode("ascii")

    def observer(self, *, hide_usage: bool) -> StreamObserver:
        return MessagesObserver()

    def seen_in(self, body: bytes) -> Seen:
        record = record_in(body)
        usage = record.get("usage")
        content = record.get("content")
        return Seen(
            usage_from_anthropic(usage) if isinstance(usage, dict) else None,
            sum(_is_call(block) for block in content) if isinstance(content, list) else 0,
            record.get("type") == "error",
        )

    def seen_in_ends(self, front: bytes, back: bytes) -> Seen:
        usage = usage_in_ends(front, back)
        return Seen(None if usage is None else usage_from_anthropic(usage))

    def estimated_output(self, front: bytes, size: int, *, counted: bool = False) -> int:
        content = record_in(front).get("content") if size == len(front) else None
        calls = [block.get("input") for block in content if _is_call(block)] if isinstance(content, list) else []
        # What a tool is called with is an object here, in other dialects its text.
        said = CallFields.estimated_output(self, front, size, counted=counted)
        return sum(likely(len(json.dumps(call))) for call in calls) + said

    def error_event(self, code: str, message: str) -> bytes:
        return f"event: error\ndata: {json.dumps(error_body(code, message, 'api_error'))}\n\n".encode()


@dataclass(slots=True, kw_only=True)
class CountFields(MessagesFields):
    """A message whose tokens are to be counted. No answer is made, and nothing is billed."""

    path: ClassVar[str] = "/v1/messages/count_tokens"
    metered: ClassVar[bool] = False
    generates: ClassVar[bool] = False

    @classmethod
    def read(cls, body: bytes) -> Self:
        return cls._from(parse_body(body), stream=False, max_output=None)


class MessagesObserver(StreamObserver):
    """A stream of a message. Its input is counted in the first event, its output, summed up, in the last ones."""

    text: ClassVar[re.Pattern[bytes]] = text_members("text", "thinking", "partial_json")
    marks: ClassVar[Marks] = (USAGE, (b'"tool_use"', None), (b'"message_stop"', None), ERROR)

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[str, Any] = {}

    def _record(self, record: dict[str, Any], event: bytes) -> bytes:
        match record.get("type"):
            case "message_stop":
                return self._hold(event)
            case "message_start":
                message = record.get("message")
                self._take(message if isinstance(message, dict) else {}, last=False)
                return event
            case "message_delta":
                self._take(record, last=True)
                delta = record.get("delta")
                self.finished = isinstance(delta, dict) and bool(delta.get("stop_reason"))
                return event
            case "content_block_start":
                self.seen.tool_calls += _is_call(record.get("content_block"))
            case "error":
                self.seen.error = True
                return event
        return event

    def _take(self, holder: dict[str, Any], *, last: bool) -> None:
        usage = holder.get("usage")
        if not isinstance(usage, dict):
            return
        self._usage |= {name: value for name, value in usage.items() if value is not None}
        self.seen.counts = usage_from_anthropic(self._usage)
        self.seen.open_ended = not last


def _is_call(block: object) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_use"


def _all(headers: Mapping[str, str], name: str) -> list[str]:
    getall = getattr(headers, "getall", None)
    return list(getall(name, [])) if getall is not None else [headers[name]] if name in headers else []


def _blocks(content: object) -> Iterator[dict[str, Any]]:
    """The blocks of a message's content, those inside of tools' results too."""
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict):
            yield block
            if block.get("type") == "tool_result":
                yield from _blocks(block.get("content"))
        else:
            yield {}


def _images(messages: list[Any]) -> int:
    """How many blocks may be larger for a model than their bytes; any that we do not know may fill its window."""
    count = 0
    for message in messages:
        for block in _blocks(message.get("content")):
            kind = block.get("type")
            if kind == "image":
                count += 1
            elif kind not in _PLAIN_BLOCKS and kind != "tool_result":
                count += UNBOUNDED
    return count


def _own_key_only(value: dict[str, Any], messages: list[Any]) -> OwnKeyOnly | None:
    """What of a request would reach what other tenants share with the operator's key, or cost more than tokens."""
    for name in ("container", "mcp_servers"):
        if value.get(name):
            return OwnKeyOnly(name, "it would be the operator's, and every tenant's with it.")
    if value.get("speed") not in (None, "standard"):
        return OwnKeyOnly("speed", "it costs more than the model's rates; leave it out.")
    if value.get("inference_geo") not in (None, "global"):
        return OwnKeyOnly("inference_geo", "a place of its own costs more than the model's rates; leave it out.")
    tools = value.get("tools")
    for number, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and not kind.startswith(_OWN_TOOLS):
            return OwnKeyOnly(
                f"tools[{number}].type", f"{kind[:64]!r} is run by the vendor, at a price that is not by tokens."
            )
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InvalidRequest("A message is an object.", param=f"messages[{number}]")
        for block in _blocks(message.get("content")):
            source = block.get("source")
            if block.get("type") == "container_upload" or (isinstance(source, dict) and "file_id" in source):
                return OwnKeyOnly(
                    f"messages[{number}].content", "a stored file may be anybody's; put its bytes into the message."
                )
    return None
