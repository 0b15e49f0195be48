"""OpenAI's responses as callers read them, where the answer is another vendor's or an agent's: whole, and as a stream.

The events are https://platform.openai.com/docs/api-reference/responses-streaming, numbered from 0 in their order.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from carrel.declare.rate_card import TokenCounts
from carrel.errors import UpstreamError
from carrel.wire.conversation import (
    Finished,
    ModelEvent,
    StopReason,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ThinkingProof,
    ToolCall,
    ToolDelta,
)
from carrel.wire.responses_items import item_of
from carrel.wire.sse import encode
from carrel.wire.usage import usage_to_responses

Json = dict[str, Any]
_INCOMPLETE: Final[dict[StopReason, str]] = {"length": "max_output_tokens", "refusal": "content_filter"}
_ENDS: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})


class ResponseStream:
    """Renders neutral events as the bytes of one stream; see `asked.AnswerStream`.

    ``head`` is the response as it begins, with all that its request said. ``final`` is the whole of it, once it ended.
    """

    def __init__(self, head: Json, *, item_prefix: str) -> None:
        self._head = head
        self._prefix = item_prefix
        self._number = 0
        self._begun = False
        self._output: list[Json] = []
        self._open: Text | Thinking | ToolCall | None = None
        self._seen: set[type] = set()
        self._calls: dict[str, str] = {}
        self.final: Json | None = None

    def start(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self._emit("response.created", response=self._head) + self._emit(
            "response.in_progress", response=self._head
        )

    def tick(self) -> bytes:
        return self.start()

    def error(self, code: str, message: str, *, type: str) -> bytes:  # noqa: A002 - the other dialects' name
        return self.start() + self._emit("error", code=code, message=message, param=None)

    def event(self, event: ModelEvent) -> bytes:
        match event:
            case TextDelta(text):
                return self._say(text) if text else b""
            case ThinkingDelta(text):
                return self._think(text) if text else b""
            case ThinkingProof(signature, redacted):
                return self._proof(signature, redacted)
            case ToolDelta(call_id, name, arguments):
                return self._tool(call_id, name, arguments)
            case Finished():
                return self._finish(event)

    # --- items ---

    def _say(self, text: str) -> bytes:
        out = b""
        if not isinstance(self._open, Text):
            out = self._into(Text(""))
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            out += self._emit("response.content_part.added", **self._at, content_index=0, part=part)
            self._open = Text("")
        assert isinstance(self._open, Text)  # noqa: S101 - opened just above
        self._open = Text(self._open.text + text)
        return out + self._emit("response.output_text.delta", **self._at, content_index=0, delta=text, logprobs=[])

    def _think(self, text: str) -> bytes:
        out = b""
        if not isinstance(self._open, Thinking):
            out = self._into(Thinking(""))
            part = {"type": "summary_text", "text": ""}
            out += self._emit("response.reasoning_summary_part.added", **self._at, summary_index=0, part=part)
            self._open = Thinking("")
        self._open = Thinking(self._open.text + text)
        return out + self._emit("response.reasoning_summary_text.delta", **self._at, summary_index=0, delta=text)

    def _proof(self, signature: str, redacted: str) -> bytes:
        if redacted:
            out = self._into(Thinking("", redacted=redacted))
            return out + self._close()
        if not isinstance(self._open, Thinking):
            return b""
        self._open = Thinking(self._open.text, signature)
        return self._close()

    def _tool(self, call_id: str, name: str, arguments: str) -> bytes:
        out = b""
        if not (isinstance(self._open, ToolCall) and self._open.id == call_id):
            if call_id in self._calls:
                raise UpstreamError(
                    "The provider mixed the pieces of several tool calls; this dialect has them one after the other.",
                    details={"reason": "cut"},
                )
            out = self._into(ToolCall(call_id, name, ""))
            self._calls[call_id] = ""
        self._calls[call_id] += arguments
        self._open = ToolCall(call_id, name, self._calls[call_id])
        if not arguments:
            return out
        return out + self._emit("response.function_call_arguments.delta", **self._at, delta=arguments)

    def _into(self, block: Text | Thinking | ToolCall) -> bytes:
        """Begin an item."""
        out = self.start() + self._close()
        self._open = block
        self._seen.add(type(block))
        item = self._item() | ({"content": []} if isinstance(block, Text) else {})
        if not isinstance(block, Thinking):
            item["status"] = "in_progress"
        return out + self._emit("response.output_item.added", output_index=len(self._output), item=item)

    def _item(self) -> Json:
        assert self._open is not None  # noqa: S101 - there is an item
        return item_of(self._open, f"{self._prefix}_{len(self._output)}")

    @property
    def _at(self) -> Json:
        return {"item_id": self._item()["id"], "output_index": len(self._output)}

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        item = self._item()
        out = b"".join(self._emit(**event) for event in _ends_of(item, len(self._output)))
        self._output.append(item)
        self._open = None
        return out

    def _finish(self, finished: Finished) -> bytes:
        """What was not streamed of the answer, and its end."""
        out = self.start()
        thoughts = [b for b in finished.message.content if isinstance(b, Thinking)]
        if isinstance(self._open, Thinking) and thoughts:
            out += self._proof(thoughts[-1].signature, "")
        seen = set(self._seen)
        for block in finished.message.content:
            match block:
                case Thinking(text, signature, redacted) if Thinking not in seen:
                    out += (self._think(text) if text else b"") + self._proof(signature, redacted)
                case Text(text) if Text not in seen:
                    out += self.event(TextDelta(text)) + self._close()
                case ToolCall(call_id, name, arguments):
                    said = self._calls.get(call_id, "")
                    if call_id not in self._calls or len(said) < len(arguments):
                        out += self._tool(call_id, name, arguments[len(said) :])
        out += self._close()
        self.final = self._ended(finished)
        return out + self._emit(f"response.{self.final['status']}", response=self.final)

    def _ended(self, finished: Finished) -> Json:
        reason = _INCOMPLETE.get(finished.stop)
        return self._head | {
            "status": "completed" if reason is None else "incomplete",
            "incomplete_details": None if reason is None else {"reason": reason},
            "output": self._output,
            "usage": usage_to_responses(finished.usage or TokenCounts()),
        }

    def _emit(self, type: str, **fields: object) -> bytes:  # noqa: A002 - OpenAI's name
        event = {"type": type, "sequence_number": self._number, **fields}
        self._number += 1
        return encode_event(event)


def encode_event(event: Mapping[str, Any]) -> bytes:
    """One event of a stream as bytes."""
    return encode(json.dumps(event, ensure_ascii=False, separators=(",", ":")), event=str(event["type"]))


def replay(response: Json) -> Iterator[Json]:
    """The events of the stream of a response that is there already, as far as it is, in their order."""
    head = response | {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    for number, event in enumerate(_replayed(response, head)):
        yield {"sequence_number": number, **event}


def _replayed(response: Json, head: Json) -> Iterator[Json]:
    yield {"type": "response.created", "response": head}
    yield {"type": "response.in_progress", "response": head}
    for index, item in enumerate(response.get("output") or ()):
        yield {"type": "response.output_item.added", "output_index": index, "item": _begun(item)}
        yield from _pieces_of(item, index)
        yield from _ends_of(item, index)
    status = response.get("status")
    if status in _ENDS:
        # There is no event for a response that was cancelled: its stream ends with what it is.
        kind = "incomplete" if status == "cancelled" else status
        yield {"type": f"response.{kind}", "response": response}


def _begun(item: Json) -> Json:
    match item.get("type"):
        case "message":
            return item | {"content": [], "status": "in_progress"}
        case "function_call":
            return item | {"arguments": "", "status": "in_progress"}
        case "reasoning":
            return item | {"summary": []}
    return item


def _pieces_of(item: Json, index: int) -> Iterator[Json]:
    """What comes between an item's beginning and its end."""
    at: Json = {"item_id": item.get("id"), "output_index": index}
    match item.get("type"):
        case "message":
            for number, part in enumerate(item["content"]):
                here = {**at, "content_index": number}
                empty = part | ({"text": ""} if "text" in part else {})
                yield {"type": "response.content_part.added", **here, "part": empty}
                if part.get("type") == "output_text":
                    yield {"type": "response.output_text.delta", **here, "delta": part["text"], "logprobs": []}
        case "function_call" if item["arguments"]:
            yield {"type": "response.function_call_arguments.delta", **at, "delta": item["arguments"]}
        case "reasoning":
            for number, part in enumerate(item.get("summary") or ()):
                here = {**at, "summary_index": number}
                yield {"type": "response.reasoning_summary_part.added", **here, "part": part | {"text": ""}}
                yield {"type": "response.reasoning_summary_text.delta", **here, "delta": part["text"]}


def _ends_of(item: Json, index: int) -> Iterator[Json]:
    """The events that end an item."""
    at: Json = {"item_id": item.get("id"), "output_index": index}
    match item.get("type"):
        case "message":
            for number, part in enumerate(item["content"]):
                here = {**at, "content_index": number}
                if part.get("type") == "output_text":
                    yield {"type": "response.output_text.done", **here, "text": part["text"], "logprobs": []}
                yield {"type": "response.content_part.done", **here, "part": part}
        case "function_call":
            yield {
                "type": "response.function_call_arguments.done", **at, "arguments": item["arguments"],
                "name": item["name"],
            }  # fmt: skip
        case "reasoning":
            for number, part in enumerate(item.get("summary") or ()):
                here = {**at, "summary_index": number}
                yield {"type": "response.reasoning_summary_text.done", **here, "text": part["text"]}
                yield {"type": "response.reasoning_summary_part.done", **here, "part": part}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}
