"""The fake vendor's chat completions: whole answers and the frames of streams."""

import base64
import json
import struct
from typing import Any

from tests.fakes.vendor.scripts import FakeCall, Script, pieces, usage_numbers

Json = dict[str, Any]


def error(script: Script) -> Json:
    """An error body."""
    kind = "insufficient_quota" if script.status == 429 else "invalid_request_error"
    return {"error": {"message": script.error, "type": kind, "param": None, "code": None}}


def usage(script: Script) -> Json:
    """The usage object; ``script.usage`` may be one whole, with vendors' own fields."""
    if script.usage is not None and "prompt" not in script.usage:
        return script.usage
    n = usage_numbers(script)
    return {
        "prompt_tokens": n["prompt"],
        "completion_tokens": n["completion"],
        "total_tokens": n["prompt"] + n["completion"],
        "prompt_tokens_details": {"cached_tokens": n["cached"]},
        "completion_tokens_details": {"reasoning_tokens": n["reasoning"]},
    }


def whole(body: Json, script: Script, answer_id: str) -> Json:
    """A ``chat.completion`` with the ``n`` choices and log probabilities that were asked for."""
    message: Json = {"role": "assistant", "content": script.text or None, "refusal": None}
    if script.thinking:
        message[script.reasoning_field] = script.thinking
    if script.calls:
        message["tool_calls"] = [_call(call, n) for n, call in enumerate(script.calls)]
    choices = [
        {"index": n, "message": message, "logprobs": _logprobs(body, script.text), "finish_reason": _finish(script)}
        for n in range(int(body.get("n") or 1))
    ]
    answer = {"id": answer_id, "object": "chat.completion", "created": 1_772_366_400, "model": body["model"]}
    answer |= served(script)
    return answer | {"choices": choices} | ({} if script.usage_at == "none" else {"usage": usage(script)})


def vectors(body: Json, script: Script) -> Json:
    """A list of embeddings: of one text, of several, or of tokens; as base64 where that is asked for, as SDKs do."""
    given = body["input"]
    many = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
    numbers = [0.25, -0.5, 1.0]
    packed = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    vector: Any = packed if body.get("encoding_format") == "base64" else numbers
    data = [{"object": "embedding", "index": n, "embedding": vector} for n, _ in enumerate(many)]
    prompt = usage_numbers(script)["prompt"] * len(many)
    answer: Json = {"object": "list", "data": data, "model": body["model"]}
    return answer | ({} if script.usage_at == "none" else {"usage": {"prompt_tokens": prompt, "total_tokens": prompt}})


def frames(body: Json, script: Script, answer_id: str) -> list[bytes]:
    """The events of a stream, ``[DONE]`` included unless the script leaves it out."""
    head = {"id": answer_id, "object": "chat.completion.chunk", "created": 1_772_366_400, "model": body["model"]}
    head |= served(script)
    asked = bool((body.get("stream_options") or {}).get("include_usage"))
    deltas: list[Json] = [{"role": "assistant", "content": ""}]
    deltas += [{script.reasoning_field: piece} for piece in pieces(script.thinking, script.piece)]
    deltas += [{"content": piece} for piece in pieces(script.text, script.piece)]
    for position, call in enumerate(script.calls):
        deltas += _call_deltas(call, position, script)
    chunks: list[Json] = []
    choices = range(int(body.get("n") or 1))
    for delta in deltas:
        for index in choices:
            logprobs = _logprobs(body, delta.get("content") or "")
            chunks.append(
                head | {"choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}]}
            )
    if script.finish is not None:
        end: Json = {"delta": {}, "finish_reason": _finish(script)}
        chunks += [head | {"choices": [{"index": index, **end}]} for index in choices]
    _place_usage(chunks, head, script, asked=asked)
    out = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    return out + ([b"data: [DONE]\n\n"] if script.done else [])


def served(script: Script) -> Json:
    """The member that says the service tier, where the vendor says it."""
    return {"service_tier": script.served} if script.served else {}


def malformed() -> bytes:
    """A record that is no JSON."""
    return b'data: {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"con\n\n'


def error_frame(script: Script) -> bytes:
    """An error in the middle of a stream."""
    said = {"message": script.error or "The server had an error.", "type": "server_error", "code": None}
    return b"data: " + json.dumps({"error": said}).encode() + b"\n\n"


def _place_usage(chunks: list[Json], head: Json, script: Script, *, asked: bool) -> None:
    match script.usage_at:
        case "last" if asked:
            chunks.append(head | {"choices": [], "usage": usage(script)})
        case "finish":
            chunks[-1]["usage"] = usage(script)
        case "choice":
            chunks[-1]["choices"][0]["usage"] = usage(script)
        case "x_groq":
            chunks[-1]["x_groq"] = {"id": "req_1", "usage": usage(script)}


def _finish(script: Script) -> str | None:
    return script.finish or ("tool_calls" if script.calls else "stop") if script.finish is not None else None


def _call(call: FakeCall, position: int) -> Json:
    return {
        "id": call.id or f"call_{position}",
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _call_deltas(call: FakeCall, position: int, script: Script) -> list[Json]:
    given = _call(call, position)
    match script.call_style:
        case "whole":
            return [{"tool_calls": [{"index": position, **given}]}]
        case "no_index":
            return [{"tool_calls": [given]}]
        case "index_0":
            return [{"tool_calls": [{"index": 0, **given}]}]
        case "object":
            given["function"]["arguments"] = json.loads(call.arguments)
            return [{"tool_calls": [{"index": position, **given}]}]
    first = {**given, "function": {"name": call.name, "arguments": ""}}
    return [
        {"tool_calls": [{"index": position, **first}]},
        *(
            {"tool_calls": [{"index": position, "function": {"arguments": piece}}]}
            for piece in pieces(call.arguments, 5)
        ),
    ]


def _logprobs(body: Json, text: str) -> Json | None:
    if not body.get("logprobs"):
        return None
    return {"content": [{"token": text, "logprob": -0.25, "bytes": list(text.encode()), "top_logprobs": []}]}
