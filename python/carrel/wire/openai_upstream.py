"""OpenAI's chat completions as vendors read and write them: the neutral request as a body, chunks as neutral events.

Servers that call themselves compatible differ in where they put reasoning, usage, tool calls and the end. What is
known of them is here, in pure code. Knows nothing of sockets, retries or keys.
"""

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from carrel.declare.rate_card import Tier
from carrel.errors import UpstreamError
from carrel.wire.conversation import (
    Block,
    Finished,
    Image,
    Message,
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
from carrel.wire.proofs import FIELD_MARK
from carrel.wire.usage import find_openai_usage, tier_of, usage_from_openai

Json = Mapping[str, Any]

_REASONING_FIELDS: Final = ("reasoning_content", "reasoning")
_STOPS: Final[Mapping[str, StopReason]] = {
    "stop": "end",
    "eos": "end",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "refusal",
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one server differs. ``limit_field`` names the field of the output limit."""

    limit_field: str = "max_tokens"
    ask_usage: bool = True


def request_body(request: ModelRequest, dialect: Dialect) -> dict[str, Any]:
    """The body of a streaming call. ``extra`` comes last and so wins."""
    body: dict[str, Any] = {"model": request.model, "messages": _messages(request), "stream": True}
    body[dialect.limit_field] = request.max_tokens
    if dialect.ask_usage:
        body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": t.name, "description": t.description, "parameters": t.parameters}
                | ({} if t.strict is None else {"strict": t.strict}),
            }
            for t in request.tools
        ]
        body["tool_choice"] = (
            request.tool_choice
            if request.tool_choice in ("auto", "none", "required")
            else {"type": "function", "function": {"name": request.tool_choice}}
        )
        if not request.parallel_tool_calls:
            body["parallel_tool_calls"] = False
    if request.output_schema is not None:
        shape = {"name": request.output_schema.name, "schema": request.output_schema.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
    if request.thinking != "off":
        body["reasoning_effort"] = request.thinking
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.stop:
        body["stop"] = list(request.stop)
    return body | request.extra


def _messages(request: ModelRequest) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = [{"role": "system", "content": request.system}] if request.system else []
    in_progress = _tool_loop_start(request.messages)
    for index, message in enumerate(request.messages):
        if message.role == "assistant":
            out.append(_assistant(message.content, with_reasoning=index > in_progress))
        else:
            out += _user(message.content)
    return out


def _tool_loop_start(messages: tuple[Message, ...]) -> int:
    """The index of the last message that a person wrote: what comes after it is one turn, still in progress."""
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if message.role == "user" and not all(isinstance(b, ToolResult) for b in message.content):
            return index
    return -1


def _assistant(blocks: Iterable[Block], *, with_reasoning: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    text, calls = "", []
    for block in blocks:
        match block:
            case Text(piece):
                text += piece
            case ToolCall(call_id, name, arguments):
                function = {"name": name, "arguments": arguments or "{}"}
                calls.append({"id": call_id, "type": "function", "function": function})
            case Thinking(piece, signature) if with_reasoning and signature.startswith(FIELD_MARK):
                field = signature.removeprefix(FIELD_MARK)
                if field in _REASONING_FIELDS:
                    message[field] = message.get(field, "") + piece
    message["content"] = text if text or not calls else None
    if calls:
        message["tool_calls"] = calls
    return message


def _user(blocks: Iterable[Block]) -> list[dict[str, Any]]:
    """Tool results are messages of their own here, and come before the text beside them.

    They hold text alone: a result's pictures are the user's words behind all results, each set named for its call.
    """
    results: list[dict[str, Any]] = []
    pictures: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    for block in blocks:
        match block:
            case ToolResult(call_id, content, is_error, images):
                said = f"Error: {content}" if is_error and not content.startswith("Error") else content
                results.append({"role": "tool", "tool_call_id": call_id, "content": said})
                if images:
                    pictures.append({"type": "text", "text": f"Images that the tool call {call_id} gave:"})
                    pictures += [_picture(image) for image in images]
            case Text(text):
                parts.append({"type": "text", "text": text})
            case Image():
                parts.append(_picture(block))
    parts = pictures + parts
    if all(p["type"] == "text" for p in parts):
        return results + ([{"role": "user", "content": "\n\n".join(p["text"] for p in parts)}] if parts else [])
    return [*results, {"role": "user", "content": parts}]


def _picture(image: Image) -> dict[str, Any]:
    url = image.url or f"data:{image.media_type};base64,{image.data}"
    return {"type": "image_url", "image_url": {"url": url}}


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: str = ""
    told: int = 0


class ChunkReader:
    """Puts one answer together out of its records (the JSON of each event, or the one of an unstreamed answer).

    ``begun`` is true once a record that is no error was read: from then on the call must not be made again.
    """

    def __init__(self) -> None:
        self.begun = False
        self._text = ""
        self._thinking = ""
        self._field = ""
        self._thinks = False
        self._calls: dict[int, _Call] = {}
        self._last: _Call | None = None
        self._finish: str | None = None
        self._refused = False
        self._usage: Json | None = None
        self._served: Tier | None = None
        self._id: str | None = None

    def read(self, record: Json) -> list[ProviderEvent]:
        """The events that ``record`` gives; raises UpstreamError where it is an error."""
        error = record.get("error")
        if error or record.get("object") == "error":
            raise _failure(error or record)
        self.begun = True
        usage = find_openai_usage(record)
        if usage is not None:
            self._usage = usage
        events: list[ProviderEvent] = []
        served = tier_of(record)
        if served is not None and served != self._served:
            self._served = served
            events.append(Served(served))
        if isinstance(record.get("id"), str):
            self._id = self._id or record["id"]
        choices = record.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, Mapping) and choice.get("index") in (0, None):
                self._read_choice(choice, events)
        return events

    def _read_choice(self, choice: Json, events: list[ProviderEvent]) -> None:
        delta = choice.get("delta") or choice.get("message") or {}
        if isinstance(delta, Mapping):
            for field in _REASONING_FIELDS:
                thought = delta.get(field)
                if isinstance(thought, str) and thought:
                    self._think(thought, field, events)
                    break
            self._read_content(delta.get("content"), events)
            if isinstance(delta.get("refusal"), str) and delta["refusal"]:
                self._refused = True
                self._say(delta["refusal"], events)
            calls = delta.get("tool_calls")
            for position, call in enumerate(calls if isinstance(calls, list) else ()):
                if isinstance(call, Mapping):
                    self._read_call(call, position, events)
        if isinstance(choice.get("finish_reason"), str):
            self._finish = choice["finish_reason"]

    def _read_content(self, content: object, events: list[ProviderEvent]) -> None:
        """Text, or a list of parts as Mistral's reasoning models send it."""
        if isinstance(content, str):
            self._say(content, events)
        for part in content if isinstance(content, list) else ():
            if not isinstance(part, Mapping):
                continue
            if part.get("type") == "thinking":
                inner = part.get("thinking")
                pieces = inner if isinstance(inner, list) else [{"text": inner}]
                self._think("".join(str(p.get("text") or "") for p in pieces if isinstance(p, Mapping)), "", events)
            elif isinstance(part.get("text"), str):
                self._say(part["text"], events)

    def _say(self, text: str, events: list[ProviderEvent]) -> None:
        if text:
            self._text += text
            self._thought(events)
            events.append(TextDelta(text))

    def _think(self, text: str, field: str, events: list[ProviderEvent]) -> None:
        if text:
            self._thinking += text
            self._field = self._field or field
            self._thinks = True
            events.append(ThinkingDelta(text))

    def _thought(self, events: list[ProviderEvent]) -> None:
        """What comes now is no reasoning: that is at its end, where there was any."""
        if self._thinks:
            self._thinks = False
            events.append(ThinkingProof(FIELD_MARK + self._field if self._field else ""))

    def _read_call(self, piece: Json, position: int, events: list[ProviderEvent]) -> None:
        """One fragment. Some servers send no index, or 0 for every call: a new id with a name is then a new call."""
        index = piece.get("index")
        call_id = piece.get("id") if isinstance(piece.get("id"), str) else ""
        function = piece.get("function")
        function = function if isinstance(function, Mapping) else {}
        name = function.get("name") if isinstance(function.get("name"), str) else ""
        key = index if isinstance(index, int) else position
        call = self._calls.get(key)
        if call is None and not isinstance(index, int) and not call_id and not name:
            call = self._last
        if call is None or (call_id and name and call.id and call_id != call.id):
            key = key if key not in self._calls else max(self._calls) + 1
            same = next((c for c in self._calls.values() if call_id and c.id == call_id), None)
            call = same or self._calls.setdefault(key, _Call())
        call.id = call.id or call_id or ""
        call.name = call.name or name or ""
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            call.arguments += arguments
        elif isinstance(arguments, Mapping):
            call.arguments = json.dumps(arguments)
        self._last = call
        if call.id and call.name:
            self._thought(events)
            events.append(ToolDelta(call.id, call.name, call.arguments[call.told :]))
            call.told = len(call.arguments)

    def finish(self, *, done: bool) -> Finished:
        """The whole answer. ``done``: the vendor said `[DONE]`, or the answer was not streamed.

        Raises UpstreamError where neither that nor a finish reason came: the stream was cut.
        """
        if self._finish is None and not done:
            raise UpstreamError("The provider's stream broke off before its end.", details={"reason": "cut"})
        blocks: list[Block] = []
        if self._thinking:
            blocks.append(Thinking(self._thinking, signature=FIELD_MARK + self._field if self._field else ""))
        if self._text:
            blocks.append(Text(self._text))
        calls = [c for _, c in sorted(self._calls.items()) if c.name]
        blocks += [ToolCall(c.id or f"call_{secrets.token_hex(12)}", c.name, c.arguments or "{}") for c in calls]
        stop: StopReason = _STOPS.get(self._finish or "stop", "end")
        if calls and stop == "end":
            stop = "tool_calls"
        if self._refused and stop == "end":
            stop = "refusal"
        usage = usage_from_openai(self._usage, served=self._served) if self._usage is not None else None
        return Finished(Message("assistant", tuple(blocks)), stop, usage, self._id)


def _failure(error: object) -> UpstreamError:
    """An error that came inside a stream; whether it may be tried again follows from what the vendor calls it."""
    message, kind = str(error), ""
    status = None
    if isinstance(error, Mapping):
        message = str(error.get("message") or error)
        kind = f"{error.get('type') or ''} {error.get('code') or ''}".lower()
        code = error.get("code")
        status = code if isinstance(code, int) and 400 <= code < 600 else None
    retryable = (status is not None and (status in (408, 409, 429) or status >= 500)) or any(
        word in kind for word in ("rate_limit", "overloaded", "server_error", "unavailable", "timeout")
    )
    return UpstreamError(message, status=status, retryable=retryable, details={"reason": "stream_error"})
