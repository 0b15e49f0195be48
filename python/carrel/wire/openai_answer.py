"""OpenAI's chat completions as callers read them: the stream's chunks, the whole completion, and the error body."""

import json
from collections.abc import Iterable
from typing import Any, Final

from carrel.declare.rate_card import TokenCounts
from carrel.wire.conversation import (
    Finished,
    Message,
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
from carrel.wire.proofs import is_proof, proof_details
from carrel.wire.sse import encode
from carrel.wire.usage import usage_to_openai

DONE: Final = b"data: [DONE]\n\n"
FINISH: Final[dict[StopReason, str]] = {
    "end": "stop",
    "stop_sequence": "stop",
    "tool_calls": "tool_calls",
    "length": "length",
    "refusal": "content_filter",
}
_UNSAID: Final = TokenCounts()


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def error_body(
    code: str,
    message: str,
    param: str | None = None,
    type: str = "invalid_request_error",  # noqa: A002 - OpenAI's name for it
) -> dict[str, Any]:
    """An error as OpenAI's clients read it."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def _tool_calls(calls: Iterable[ToolCall]) -> list[dict[str, Any]]:
    return [{"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in calls]


class ChatStream:
    """Renders neutral events as the bytes of one ``chat.completion.chunk`` stream.

    ``id`` is the completion's (`chatcmpl-…`), ``model`` the name that the caller used, ``created`` in Unix seconds.
    Every method returns the bytes to send now. An agent's edge uses `text`, `thinking` and `finish`; a translated
    model call hands `event` what its provider gives.
    """

    def __init__(
        self, *, id: str, model: str, created: int, include_usage: bool = False  # noqa: A002 - OpenAI's name
    ) -> None:  # fmt: skip
        self._head: dict[str, Any] = {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._include_usage = include_usage
        self._begun = False
        self._thought = ""
        self._proofs = 0
        self._calls: dict[str, str] = {}
        self._finished: Finished | None = None

    @property
    def final(self) -> dict[str, Any] | None:
        """The whole completion, once a Finished said it."""
        if self._finished is None:
            return None
        end, head = self._finished, self._head
        return completion(
            id=head["id"], model=head["model"], created=head["created"], message=end.message, stop=end.stop,
            usage=end.usage,
        )  # fmt: skip

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        chunk: dict[str, Any] = {
            **self._head,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        }
        if self._include_usage:
            chunk["usage"] = None
        return encode(_dump(chunk))

    def start(self) -> bytes:
        """The chunk that says who speaks, once; the other methods send it where it was not sent yet."""
        if self._begun:
            return b""
        self._begun = True
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, text: str) -> bytes:
        """A piece of the answer."""
        return self.start() + self._chunk({"content": text}) if text else b""

    def thinking(self, text: str) -> bytes:
        """A piece of reasoning, in the field that most OpenAI-compatible servers use."""
        self._thought += text
        return self.start() + self._chunk({"reasoning_content": text}) if text else b""

    def tick(self) -> bytes:
        """That somebody is at work, and nothing of what."""
        return self.start()

    def proof(self, proof: ThinkingProof) -> bytes:
        """The end of a block of reasoning: where its vendor wants a proof back, the whole of it with the proof."""
        text, self._thought = self._thought, ""
        thinking = Thinking(text, proof.signature, proof.redacted)
        if not is_proof(thinking):
            return b""
        self._proofs += 1
        details = proof_details([thinking], first=self._proofs - 1)
        return self.start() + self._chunk({"reasoning_details": details})

    def tool_piece(self, piece: ToolDelta) -> bytes:
        """A piece of a call's arguments; the first one names the call."""
        said = self._calls.get(piece.id)
        self._calls[piece.id] = (said or "") + piece.arguments
        index = list(self._calls).index(piece.id)
        if said is not None:
            function = {"function": {"arguments": piece.arguments}}
            return self._chunk({"tool_calls": [{"index": index, **function}]}) if piece.arguments else b""
        [call] = _tool_calls([ToolCall(piece.id, piece.name, piece.arguments)])
        return self.start() + self._chunk({"tool_calls": [{"index": index, **call}]})

    def tool_calls(self, calls: Iterable[ToolCall]) -> bytes:
        """What was not streamed of ``calls``."""
        out = b""
        for call in calls:
            said = self._calls.get(call.id, "")
            if call.id not in self._calls or len(call.arguments) > len(said):
                out += self.tool_piece(ToolDelta(call.id, call.name, call.arguments[len(said) :]))
        return out

    def finish(self, stop: StopReason, usage: TokenCounts | None) -> bytes:
        """The end: the reason, the usage chunk where it was asked for, and ``[DONE]``."""
        out = self.start() + self._chunk({}, FINISH[stop])
        if self._include_usage:
            out += encode(_dump({**self._head, "choices": [], "usage": usage_to_openai(usage or _UNSAID)}))
        return out + DONE

    def event(self, event: ModelEvent) -> bytes:
        """One event of a model call; a Finished brings its tool calls, then the end."""
        match event:
            case TextDelta(text):
                return self.text(text)
            case ThinkingDelta(text):
                return self.thinking(text)
            case ThinkingProof():
                return self.proof(event)
            case ToolDelta():
                return self.tool_piece(event)
            case Finished(message, stop, usage):
                self._finished = event
                calls = [b for b in message.content if isinstance(b, ToolCall)]
                return self.start() + self.tool_calls(calls) + self.finish(stop, usage)

    def error(self, code: str, message: str, *, type: str = "server_error") -> bytes:  # noqa: A002 - OpenAI's name for it
        """An error after the stream began: clients raise on it. No ``[DONE]`` follows: the answer is not whole."""
        return encode(_dump(error_body(code, message, type=type)))


def completion(
    *,
    id: str,  # noqa: A002 - OpenAI's name for it
    model: str,
    created: int,
    message: Message,
    stop: StopReason,
    usage: TokenCounts | None,
) -> dict[str, Any]:
    """A whole answer as ``chat.completion``. An agent's edge passes a message of text alone."""
    text = "".join(b.text for b in message.content if isinstance(b, Text))
    thoughts = [b for b in message.content if isinstance(b, Thinking)]
    reasoning = "".join(b.text for b in thoughts)
    calls = _tool_calls(b for b in message.content if isinstance(b, ToolCall))
    said: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
    if reasoning:
        said["reasoning_content"] = reasoning
    if any(is_proof(thought) for thought in thoughts):
        said["reasoning_details"] = proof_details(thoughts)
    if calls:
        said["tool_calls"] = calls
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": FINISH[stop]}
    return {
        "id": id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "usage": usage_to_openai(usage or _UNSAID),
    }
