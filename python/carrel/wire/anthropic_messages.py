"""Anthropic's Messages API as a vendor: the neutral request as a body, its stream's events as neutral ones.

The format is https://docs.anthropic.com/en/api/messages. Pure: knows nothing of sockets, retries or keys.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from carrel.errors import InvalidRequest, UpstreamError
from carrel.wire.conversation import (
    Block,
    Finished,
    Image,
    Message,
    ModelEvent,
    ModelRequest,
    ProviderEvent,
    Served,
    StopReason,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ThinkingProof,
    ToolCall,
    ToolDelta,
    ToolResult,
)
from carrel.wire.proofs import is_proof
from carrel.wire.usage import tier_of, usage_from_anthropic

Json = Mapping[str, Any]

THINKING_BUDGETS: Final[Mapping[str, int]] = {"low": 2_048, "medium": 8_192, "high": 24_576}
"""Tokens of thinking for the models that take a budget."""
MIN_BUDGET: Final = 1_024
_CACHED_TURNS: Final = 2
_EPHEMERAL: Final = {"type": "ephemeral"}
# The models before adaptive thinking: 3.7 and the fourth generation up to 4.5, with or without their date.
_TAKES_BUDGET: Final = re.compile(r"claude-(?:3-7-sonnet|(?:opus|sonnet|haiku)-4(?:-[0-5])?)(?:-latest|[-@]\d{8})?")
_STOPS: Final[Mapping[str, StopReason]] = {
    "end_turn": "end",
    "pause_turn": "end",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
_RETRYABLE: Final = {"overloaded_error": 529, "api_error": 500, "rate_limit_error": 429, "timeout_error": 504}


def request_body(request: ModelRequest) -> dict[str, Any]:
    """The body of a streaming call. ``extra`` comes last and so wins. Raises InvalidRequest by the field's name."""
    if request.temperature is not None and request.temperature > 1:
        raise InvalidRequest("`temperature` is at most 1 with this model's provider.", param="temperature")
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens,
        "messages": _messages(request.messages),
        "stream": True,
    }
    if request.system:
        body["system"] = [{"type": "text", "text": request.system, "cache_control": _EPHEMERAL}]
    if request.tools:
        tools: list[dict[str, Any]] = [
            {"name": t.name, "description": t.description, "input_schema": {"type": "object", **t.parameters}}
            | ({} if t.strict is None else {"strict": t.strict})
            for t in request.tools
        ]
        tools[-1]["cache_control"] = _EPHEMERAL
        body["tools"] = tools
        body["tool_choice"] = _tool_choice(request)
    body |= _thinking(request)
    if request.output_schema is not None:
        shape = {"type": "json_schema", "schema": request.output_schema.schema}
        body["output_config"] = {**body.get("output_config", {}), "format": shape}
    for name in ("temperature", "top_p"):
        if getattr(request, name) is not None:
            body[name] = getattr(request, name)
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    return body | request.extra


def _tool_choice(request: ModelRequest) -> dict[str, Any]:
    kind = {"auto": "auto", "none": "none", "required": "any"}.get(request.tool_choice)
    choice: dict[str, Any] = {"type": kind} if kind else {"type": "tool", "name": request.tool_choice}
    if not request.parallel_tool_calls and kind != "none":
        choice["disable_parallel_tool_use"] = True
    return choice


def _thinking(request: ModelRequest) -> dict[str, Any]:
    """Thinking as the model takes it: an effort, or for older models a budget within half of ``max_tokens``."""
    if request.thinking == "off":
        return {}
    if request.tools and request.tool_choice not in ("auto", "none"):
        raise InvalidRequest("`tool_choice` cannot force a tool while the model thinks.", param="tool_choice")
    if request.temperature not in (None, 1):
        raise InvalidRequest("`temperature` cannot be set while the model thinks.", param="temperature")
    if not _TAKES_BUDGET.fullmatch(request.model):
        return {
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": request.thinking},
        }
    budget = min(THINKING_BUDGETS[request.thinking], request.max_tokens // 2)
    if budget < MIN_BUDGET or _loop_without_thinking(request.messages):
        return {}
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _loop_without_thinking(messages: tuple[Message, ...]) -> bool:
    """True within a tool loop that another model began: a budget is refused where its first block is no thinking."""
    last = next((m for m in reversed(messages) if m.role == "assistant"), None)
    if last is None or not any(isinstance(b, ToolCall) for b in last.content):
        return False
    answered = messages[-1].role == "user" and any(isinstance(b, ToolResult) for b in messages[-1].content)
    return answered and not any(isinstance(b, Thinking) and is_proof(b) for b in last.content)


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The messages, with a cache breakpoint at the end of each of the last user turns."""
    out: list[dict[str, Any]] = []
    for message in messages:
        content = [part for block in message.content if (part := _part(block)) is not None]
        if message.role == "user":
            content.sort(key=lambda part: part["type"] != "tool_result")
        if content:
            out.append({"role": message.role, "content": content})
    for message_json in [m for m in out if m["role"] == "user"][-_CACHED_TURNS:]:
        message_json["content"][-1]["cache_control"] = _EPHEMERAL
    return out


def _part(block: Block) -> dict[str, Any] | None:
    """The block as JSON; None for what this API does not take (empty text, unsigned thinking)."""
    match block:
        case Text(text):
            return {"type": "text", "text": text} if text.strip() else None
        case Image():
            return _image(block)
        case Thinking(text, signature, redacted):
            if not is_proof(block):
                # It goes back with the vendor's own proof or not at all: without it the call is refused.
                return None
            if redacted:
                return {"type": "redacted_thinking", "data": redacted}
            return {"type": "thinking", "thinking": text, "signature": signature}
        case ToolCall(call_id, name, arguments):
            return {"type": "tool_use", "id": call_id, "name": name, "input": tool_input(arguments)}
        case ToolResult(call_id, content, is_error, images):
            parts = [{"type": "text", "text": content}] if content.strip() else []
            said: object = [*parts, *map(_image, images)] if images else content
            result: dict[str, Any] = {"type": "tool_result", "tool_use_id": call_id, "content": said}
            return result | ({"is_error": True} if is_error else {})


def _image(image: Image) -> dict[str, Any]:
    source = {"type": "base64", "media_type": image.media_type, "data": image.data}
    return {"type": "image", "source": {"type": "url", "url": image.url} if image.url else source}


def tool_input(arguments: str) -> dict[str, Any]:
    """Tool input is an object here; arguments that are none, as a model wrote them, are shown to it as text."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"invalid_arguments": arguments}


class EventReader:
    """Puts one answer together out of a stream's events.

    ``begun`` is true once an event that is no error was read: from then on the call must not be made again.
    """

    def __init__(self) -> None:
        self.begun = False
        self._open: dict[int, dict[str, Any]] = {}
        self._blocks: dict[int, Block] = {}
        self._usage: dict[str, Any] = {}
        self._stop: str | None = None
        self._id: str | None = None

    def read(self, record: Json) -> list[ProviderEvent]:
        """The neutral events that ``record`` gives; raises UpstreamError where it is an error."""
        kind = record.get("type")
        if kind == "error":
            raise _failure(record.get("error"))
        self.begun = self.begun or kind != "ping"
        match kind:
            case "message_start":
                message = _mapping(record.get("message"))
                self._id = message["id"] if isinstance(message.get("id"), str) else None
                return self._note_usage(message.get("usage"))
            case "content_block_start":
                return [*self._start(record)]
            case "content_block_delta":
                return [*self._delta(record)]
            case "content_block_stop":
                return [*self._stopped(_index(record))]
            case "message_delta":
                stop = _mapping(record.get("delta")).get("stop_reason")
                self._stop = stop if isinstance(stop, str) else self._stop
                return self._note_usage(record.get("usage"))
        return []

    def _note_usage(self, usage: object) -> list[ProviderEvent]:
        """Later counts replace earlier ones: they are cumulative, and a null says nothing. Tells a tier that is new."""
        before = tier_of(self._usage)
        self._usage |= {k: v for k, v in _mapping(usage).items() if v is not None}
        served = tier_of(self._usage)
        return [Served(served)] if served is not None and served != before else []

    def _start(self, record: Json) -> list[ModelEvent]:
        block = dict(_mapping(record.get("content_block")))
        self._open[_index(record)] = block
        block["json"] = ""
        if block.get("type") == "text" and isinstance(block.get("text"), str) and block["text"]:
            return [TextDelta(block["text"])]
        if block.get("type") == "thinking" and isinstance(block.get("thinking"), str) and block["thinking"]:
            return [ThinkingDelta(block["thinking"])]
        if block.get("type") == "tool_use" and isinstance(block.get("id"), str) and isinstance(block.get("name"), str):
            return [ToolDelta(block["id"], block["name"], "")]
        return []

    def _stopped(self, index: int) -> list[ModelEvent]:
        """Close a block; what its end tells that no piece of it did."""
        block = self._open.get(index, {})
        pieces = bool(block.get("json"))
        self._close(index)
        closed = self._blocks.get(index)
        if isinstance(closed, Thinking):
            return [ThinkingProof(closed.signature, closed.redacted)]
        if isinstance(closed, ToolCall) and not pieces:
            return [ToolDelta(closed.id, closed.name, closed.arguments)]
        return []

    def _delta(self, record: Json) -> list[ModelEvent]:
        block = self._open.get(_index(record))
        delta = _mapping(record.get("delta"))
        if block is None:
            raise UpstreamError("The provider sent a piece of no block.", details={"reason": "cut"})
        match delta:
            case {"type": "text_delta", "text": str(text)}:
                block["text"] = _words(block, "text") + text
                return [TextDelta(text)] if text else []
            case {"type": "thinking_delta", "thinking": str(text)}:
                block["thinking"] = _words(block, "thinking") + text
                return [ThinkingDelta(text)] if text else []
            case {"type": "signature_delta", "signature": str(text)}:
                block["signature"] = _words(block, "signature") + text
            case {"type": "input_json_delta", "partial_json": str(text)}:
                block["json"] += text
                if text and isinstance(block.get("id"), str) and isinstance(block.get("name"), str):
                    return [ToolDelta(block["id"], block["name"], text)]
        return []

    def _close(self, index: int) -> None:
        block = self._open.pop(index, {})
        match block:
            case {"type": "text", "text": str(text)} if text:
                self._blocks[index] = Text(text)
            case {"type": "thinking"}:
                self._blocks[index] = Thinking(_words(block, "thinking"), signature=_words(block, "signature"))
            case {"type": "redacted_thinking", "data": str(data)}:
                self._blocks[index] = Thinking("", redacted=data)
            case {"type": "tool_use", "id": str(call_id), "name": str(name), "json": str(text)}:
                self._blocks[index] = ToolCall(call_id, name, text or json.dumps(block.get("input") or {}))

    def finish(self, *, done: bool) -> Finished:
        """The whole answer; raises UpstreamError where the stream was cut. ``done``: the vendor sent its last event."""
        if self._stop is None and not done:
            raise UpstreamError("The provider's stream broke off before its end.", details={"reason": "cut"})
        for index in list(self._open):
            self._close(index)
        blocks = tuple(block for _, block in sorted(self._blocks.items()))
        stop = _STOPS.get(self._stop or "end_turn", "end")
        usage = usage_from_anthropic(self._usage) if self._usage else None
        return Finished(Message("assistant", blocks), stop, usage, self._id)


def _mapping(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _words(block: Json, name: str) -> str:
    """What is there of a block's text so far; a vendor may begin it with a null."""
    words = block.get(name)
    return words if isinstance(words, str) else ""


def _index(record: Json) -> int:
    index = record.get("index")
    return index if isinstance(index, int) else 0


def _failure(error: object) -> UpstreamError:
    kind = str(_mapping(error).get("type") or "")
    message = str(_mapping(error).get("message") or "The provider reported an error without a message.")
    status = _RETRYABLE.get(kind)
    return UpstreamError(message, status=status, retryable=status is not None, details={"reason": "stream_error"})
