"""The fake vendor's Messages API: whole answers and the frames of streams."""

import json
from typing import Any

from tests.fakes.vendor import openai_side
from tests.fakes.vendor.scripts import Script, pieces, usage_numbers

Json = dict[str, Any]
_ERRORS = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}


def error(script: Script) -> Json:
    """An error body."""
    return {"type": "error", "error": {"type": _ERRORS.get(script.status, "api_error"), "message": script.error}}


def usage(script: Script) -> Json:
    """The usage object: input classes are disjoint here, thinking is part of the output."""
    n = usage_numbers(script)
    return {
        "input_tokens": n["prompt"] - n["cached"] - n["cache_write"],
        "cache_read_input_tokens": n["cached"],
        "cache_creation_input_tokens": n["cache_write"],
        "cache_creation": {
            "ephemeral_5m_input_tokens": n["cache_write"] - n["cache_write_1h"],
            "ephemeral_1h_input_tokens": n["cache_write_1h"],
        },
        "output_tokens": n["completion"],
        "output_tokens_details": {"thinking_tokens": n["reasoning"]},
        **openai_side.served(script),
    }


def blocks(script: Script) -> list[Json]:
    """The content of an answer."""
    content: list[Json] = []
    if script.thinking:
        content.append({"type": "thinking", "thinking": script.thinking, "signature": script.signature})
    if script.redacted:
        content.append({"type": "redacted_thinking", "data": script.redacted})
    if script.text:
        content.append({"type": "text", "text": script.text})
    for n, call in enumerate(script.calls):
        content.append(
            {"type": "tool_use", "id": call.id or f"toolu_{n}", "name": call.name, "input": json.loads(call.arguments)}
        )
    return content


def whole(body: Json, script: Script, answer_id: str) -> Json:
    """A ``message``."""
    return {
        "id": answer_id,
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": blocks(script),
        "stop_reason": _stop(script),
        "stop_sequence": None,
        "usage": usage(script),
    }


def frames(body: Json, script: Script, answer_id: str) -> list[bytes]:
    """The events of a stream."""
    started = usage(script) | {"output_tokens": 1, "output_tokens_details": None}
    message = whole(body, script, answer_id) | {"content": [], "stop_reason": None, "usage": started}
    events: list[Json] = [{"type": "message_start", "message": message}, {"type": "ping"}]
    for index, block in enumerate(blocks(script)):
        events += _block_events(index, block, script)
    if script.finish is not None:
        delta = {"stop_reason": _stop(script), "stop_sequence": None}
        events.append({"type": "message_delta", "delta": delta, "usage": usage(script)})
    if script.done:
        events.append({"type": "message_stop"})
    return [_frame(event) for event in events]


def malformed() -> bytes:
    """A record that is no JSON."""
    return b'event: content_block_delta\ndata: {"type": "content_block_delta", "ind\n\n'


def error_frame(script: Script) -> bytes:
    """An error in the middle of a stream."""
    said = {"type": "overloaded_error", "message": script.error or "Overloaded"}
    return _frame({"type": "error", "error": said})


def _frame(event: Json) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def _block_events(index: int, block: Json, script: Script) -> list[Json]:
    match block["type"]:
        case "thinking":
            start = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": p} for p in pieces(block["thinking"], script.piece)]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case "text":
            start = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"], script.piece)]
        case "tool_use":
            start = block | {"input": {}}
            text = json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces(text, 5)]]
        case _:
            start, deltas = block, []
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _stop(script: Script) -> str:
    return script.finish or ("tool_use" if script.calls else "end_turn")
