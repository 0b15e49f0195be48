"""Anthropic's messages as callers read them, where the answer is another vendor's or an agent's.

The events are https://docs.anthropic.com/en/api/messages-streaming: one block is open at a time, and the counts come at
the end, for nobody knows them before.
"""

import json
from typing import Any, Final

from carrel.declare.rate_card import TokenCounts
from carrel.errors import UpstreamError
from carrel.wire.anthropic_answer import error_body
from carrel.wire.anthropic_messages import tool_input
from carrel.wire.conversation import (
    Block,
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
from carrel.wire.sse import encode
from carrel.wire.usage import usage_to_anthropic

STOPS: Final[dict[StopReason, str]] = {
    "end": "end_turn",
    "stop_sequence": "stop_sequence",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "refusal": "refusal",
}
_UNSAID: Final = TokenCounts()


def message_body(finished: Finished, *, id: str, model: str) -> dict[str, Any]:  # noqa: A002 - Anthropic's name
    """A whole answer as a ``message``."""
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [_block(block) for block in finished.message.content],
        "stop_reason": STOPS[finished.stop],
        "stop_sequence": None,
        "usage": usage_to_anthropic(finished.usage or _UNSAID),
    }


def _block(block: Block) -> dict[str, Any]:
    match block:
        case Thinking(text, signature, redacted):
            if redacted:
                return {"type": "redacted_thinking", "data": redacted}
            return {"type": "thinking", "thinking": text, "signature": signature}
        case ToolCall(call_id, name, arguments):
            return {"type": "tool_use", "id": call_id, "name": name, "input": tool_input(arguments)}
        case Text(text):
            return {"type": "text", "text": text, "citations": None}
    raise UpstreamError("The model's answer holds what this dialect has no block for.")


class MessageStream:
    """Renders neutral events as the bytes of one stream; see `asked.AnswerStream`."""

    def __init__(self, *, id: str, model: str) -> None:  # noqa: A002 - Anthropic's name
        self._message: dict[str, Any] = {
            "id": id, "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": None,
            "stop_sequence": None, "usage": usage_to_anthropic(_UNSAID),
        }  # fmt: skip
        self._begun = False
        self._index = -1
        self._open = ""
        self._text = False
        self._thoughts = 0
        self._calls: dict[str, str] = {}

    def start(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return _event("message_start", message=self._message)

    def tick(self) -> bytes:
        return self.start() + _event("ping")

    def error(self, code: str, message: str, *, type: str) -> bytes:  # noqa: A002 - Anthropic's name
        return encode(_dump(error_body(code, message, type)), event="error")

    def event(self, event: ModelEvent) -> bytes:
        match event:
            case TextDelta(text):
                if not text:
                    return b""
                self._text = True
                return self._into("text", {"type": "text", "text": ""}) + self._delta(type="text_delta", text=text)
            case ThinkingDelta(text):
                return self._think() + self._delta(type="thinking_delta", thinking=text) if text else b""
            case ThinkingProof():
                return self._proof(event)
            case ToolDelta(call_id, name, arguments):
                return self._tool(call_id, name, arguments)
            case Finished():
                return self._finish(event)

    def _into(self, key: str, block: dict[str, Any]) -> bytes:
        """Open a block for ``key`` where another or none is open."""
        if self._open == key:
            return b""
        out = self.start() + self._close()
        self._index += 1
        self._open = key
        return out + _event("content_block_start", index=self._index, content_block=block)

    def _close(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return _event("content_block_stop", index=self._index)

    def _delta(self, **delta: str) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _think(self) -> bytes:
        opened = self._into("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        self._thoughts += bool(opened)
        return opened

    def _proof(self, proof: ThinkingProof) -> bytes:
        if proof.redacted:
            self._thoughts += 1
            return self._into("redacted", {"type": "redacted_thinking", "data": proof.redacted}) + self._close()
        if self._open != "thinking" and not proof.signature:
            return b""
        out = self._think()
        if proof.signature:
            out += self._delta(type="signature_delta", signature=proof.signature)
        return out + self._close()

    def _tool(self, call_id: str, name: str, arguments: str) -> bytes:
        key = f"tool {call_id}"
        if self._open != key and call_id in self._calls:
            raise UpstreamError(
                "The provider mixed the pieces of several tool calls; this dialect has them one after the other.",
                details={"reason": "cut"},
            )
        out = self._into(key, {"type": "tool_use", "id": call_id, "name": name, "input": {}})
        self._calls[call_id] = self._calls.get(call_id, "") + arguments
        return out + (self._delta(type="input_json_delta", partial_json=arguments) if arguments else b"")

    def _finish(self, finished: Finished) -> bytes:
        """What was not streamed of the answer, and its end."""
        out = self.start()
        thoughts = [b for b in finished.message.content if isinstance(b, Thinking)]
        if self._open == "thinking" and thoughts:
            out += self._proof(ThinkingProof(thoughts[-1].signature))
        elif not self._thoughts:
            for thought in thoughts:
                out += self.event(ThinkingDelta(thought.text))
                out += self._proof(ThinkingProof(thought.signature, thought.redacted))
        for block in finished.message.content:
            match block:
                case Text(text) if not self._text:
                    out += self.event(TextDelta(text)) + self._close()
                    self._text = False
                case ToolCall(call_id, name, arguments):
                    said = self._calls.get(call_id, "")
                    if call_id not in self._calls or len(said) < len(arguments):
                        out += self._tool(call_id, name, arguments[len(said) :])
        delta = {"stop_reason": STOPS[finished.stop], "stop_sequence": None}
        out += self._close()
        out += _event("message_delta", delta=delta, usage=usage_to_anthropic(finished.usage or _UNSAID))
        return out + _event("message_stop")


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _event(kind: str, **fields: object) -> bytes:
    return encode(_dump({"type": kind, **fields}), event=kind)
