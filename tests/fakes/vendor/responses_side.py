"""The fake vendor's Responses API: whole answers and the events of streams."""

import json
from typing import Any

from tests.fakes.vendor import openai_side
from tests.fakes.vendor.scripts import FakeCall, Script, pieces, usage_numbers

Json = dict[str, Any]
error = openai_side.error
"""An error body: the same as of chat completions."""


def usage(script: Script) -> Json:
    """The usage object: cached tokens are part of the input, reasoning is part of the output."""
    n = usage_numbers(script)
    return {
        "input_tokens": n["prompt"],
        "input_tokens_details": {"cached_tokens": n["cached"], "cache_write_tokens": n["cache_write"]},
        "output_tokens": n["completion"],
        "output_tokens_details": {"reasoning_tokens": n["reasoning"]},
        "total_tokens": n["prompt"] + n["completion"],
    }


def items(script: Script, answer_id: str) -> list[Json]:
    """The output."""
    output: list[Json] = []
    if script.thinking:
        summary = [{"type": "summary_text", "text": script.thinking}]
        output.append({"type": "reasoning", "id": f"rs_{answer_id}", "summary": summary, "encrypted_content": "Z2g="})
    if script.text:
        content = [{"type": "output_text", "text": script.text, "annotations": [], "logprobs": []}]
        output.append(
            {"type": "message", "id": f"msg_{answer_id}", "role": "assistant", "status": "completed",
             "content": content}
        )  # fmt: skip
    output += [_call(call, n) for n, call in enumerate(script.calls)]
    return output


def whole(body: Json, script: Script, answer_id: str) -> Json:
    """A ``response`` that is done: completed, incomplete for `length`, failed for `error`."""
    status = {"length": "incomplete", "error": "failed"}.get(script.finish or "", "completed")
    failure = {"code": "server_error", "message": script.error or "It broke."} if status == "failed" else None
    return _response(body, answer_id, status) | {
        "output": items(script, answer_id),
        "error": failure,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "usage": None if script.usage_at == "none" else usage(script),
        **openai_side.served(script),
    }


def frames(body: Json, script: Script, answer_id: str) -> list[bytes]:
    """The events of a stream; the last one holds all of the response."""
    begun = _response(body, answer_id, "in_progress")
    events: list[Json] = [{"type": f"response.{kind}", "response": begun} for kind in ("created", "in_progress")]
    for index, item in enumerate(items(script, answer_id)):
        events += _item_events(index, item, script)
    if script.done:
        done = whole(body, script, answer_id)
        events.append({"type": f"response.{done['status']}", "response": done})
    return [_frame(event | {"sequence_number": n}) for n, event in enumerate(events)]


def malformed() -> bytes:
    """A record that is no JSON."""
    return b'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "del\n\n'


def error_frame(script: Script) -> bytes:
    """An error in the middle of a stream."""
    said = {"type": "error", "code": "server_error", "message": script.error or "It broke.", "param": None}
    return _frame(said | {"sequence_number": 99})


def _frame(event: Json) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def _response(body: Json, answer_id: str, status: str) -> Json:
    return {
        "id": f"resp_{answer_id}", "object": "response", "created_at": 1_772_366_400, "status": status,
        "background": False, "error": None, "incomplete_details": None, "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"), "model": body["model"], "output": [],
        "parallel_tool_calls": True, "previous_response_id": None, "reasoning": {"effort": None, "summary": None},
        "store": body.get("store", True), "temperature": 1.0, "text": {"format": {"type": "text"}},
        "tool_choice": "auto", "tools": body.get("tools") or [], "top_p": 1.0, "truncation": "disabled",
        "usage": None, "user": None, "metadata": body.get("metadata") or {},
        "service_tier": body.get("service_tier", "auto"),
    }  # fmt: skip


def _call(call: FakeCall, position: int) -> Json:
    return {
        "type": "function_call", "id": f"fc_{position}", "call_id": call.id or f"call_{position}", "name": call.name,
        "arguments": call.arguments, "status": "completed",
    }  # fmt: skip


def _item_events(index: int, item: Json, script: Script) -> list[Json]:
    at: Json = {"output_index": index, "item_id": item["id"]}
    match item["type"]:
        case "message":
            inner = _text_events(at, item, script)
            start = item | {"content": [], "status": "in_progress"}
        case "function_call":
            text = item["arguments"]
            inner = [
                {"type": "response.function_call_arguments.delta", "delta": piece, **at} for piece in pieces(text, 5)
            ]
            inner.append(
                {"type": "response.function_call_arguments.done", "arguments": text, "name": item["name"], **at}
            )
            start = item | {"arguments": "", "status": "in_progress"}
        case "reasoning":
            inner = _summary_events(at, item, script)
            start = item | {"summary": []}
        case _:
            inner, start = [], item
    return [
        {"type": "response.output_item.added", "output_index": index, "item": start},
        *inner,
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def _summary_events(at: Json, item: Json, script: Script) -> list[Json]:
    part = item["summary"][0]
    here = {**at, "summary_index": 0}
    return [
        {"type": "response.reasoning_summary_part.added", "part": part | {"text": ""}, **here},
        *(
            {"type": "response.reasoning_summary_text.delta", "delta": piece, **here}
            for piece in pieces(part["text"], script.piece)
        ),
        {"type": "response.reasoning_summary_text.done", "text": part["text"], **here},
        {"type": "response.reasoning_summary_part.done", "part": part, **here},
    ]


def _text_events(at: Json, item: Json, script: Script) -> list[Json]:
    part = item["content"][0]
    here = {**at, "content_index": 0}
    return [
        {"type": "response.content_part.added", "part": part | {"text": ""}, **here},
        *(
            {"type": "response.output_text.delta", "delta": piece, "logprobs": [], **here}
            for piece in pieces(part["text"], script.piece)
        ),
        {"type": "response.output_text.done", "text": part["text"], "logprobs": [], **here},
        {"type": "response.content_part.done", "part": part, **here},
    ]
