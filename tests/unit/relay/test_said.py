import json
from typing import Any

import pytest

from carrel.policy.estimate import IMAGE_TOKENS
from carrel.relay.dialects.chat import ChatFields, ChatObserver
from carrel.relay.dialects.messages import MessagesFields, MessagesObserver
from carrel.relay.dialects.protocol import CallFields
from carrel.relay.dialects.responses import ResponsesFields, ResponsesObserver
from carrel.relay.observe import StreamObserver
from carrel.relay.said import KEPT, prompt_tokens, text_members, tokens_in

HELLO = "Hello! How can I help you?"
"""26 bytes: 7 tokens."""
CHAT = {
    "id": "chatcmpl-0123456789", "object": "chat.completion", "created": 1764000000, "model": "some-model-of-theirs",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": HELLO}, "finish_reason": "stop"}],
}  # fmt: skip
MESSAGE = {
    "id": "msg_0123456789", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": HELLO}],
}  # fmt: skip
RESPONSE = {
    "id": "resp_0123456789", "object": "response", "status": "completed", "instructions": "be brief " * 40,
    "text": {"format": {"type": "text"}},
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": HELLO}]}],
}  # fmt: skip


@pytest.mark.parametrize(("fields", "answer"), [
    (ChatFields(model="m"), CHAT), (MessagesFields(model="m"), MESSAGE), (ResponsesFields(model="m"), RESPONSE),
])  # fmt: skip
def test_a_whole_answer_is_its_text_and_not_its_frame(fields: CallFields, answer: dict[str, Any]) -> None:
    for body in (json.dumps(answer).encode(), json.dumps(answer, separators=(",", ":"), indent=1).encode()):
        assert fields.seen_in(body).counts is None
        assert fields.estimated_output(body, len(body)) == 7
        half = body[: body.index(b"How")]
        assert fields.estimated_output(half, len(half)) == 2, "what came of it"


def test_what_tools_are_called_with_is_text() -> None:
    arguments = json.dumps({"path": "notes/today.md", "text": "buy milk"})
    call = {"id": "c", "type": "function", "function": {"name": "write", "arguments": arguments}}
    chat = json.dumps({"choices": [{"message": {"content": None, "tool_calls": [call]}}]}).encode()
    block = {"type": "tool_use", "id": "t", "name": "write", "input": json.loads(arguments)}
    message = json.dumps({"type": "message", "content": [block]}).encode()
    item = {"type": "function_call", "name": "write", "arguments": arguments}
    response = json.dumps({"output": [item]}).encode()
    for fields, body in (
        (ChatFields(model="m"), chat), (MessagesFields(model="m"), message), (ResponsesFields(model="m"), response)
    ):  # fmt: skip
        assert 12 <= fields.estimated_output(body, len(body)) <= 16, type(fields)


def event(value: dict[str, Any]) -> bytes:
    return f"event: x\ndata: {json.dumps(value)}\n\n".encode()


def chat_events() -> list[dict[str, Any]]:
    words = [{"delta": {"role": "assistant", "content": ""}}, *({"delta": {"content": w}} for w in HELLO.split())]
    frame = {"id": "chatcmpl-0123456789", "object": "chat.completion.chunk", "system_fingerprint": "fp_0123456789"}
    return [{**frame, "choices": [{"index": 0, "finish_reason": None, **word}]} for word in words]


def message_events() -> list[dict[str, Any]]:
    start = {"type": "message_start", "message": {"id": "m", "content": [], "model": "claude"}}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": w}} for w in HELLO.split()
    ]
    return [start, block, {"type": "ping"}, *deltas]


def response_events() -> list[dict[str, Any]]:
    deltas = [{"type": "response.output_text.delta", "item_id": "i", "delta": w} for w in HELLO.split()]
    return [
        {"type": "response.created", "response": RESPONSE},
        *deltas,
        {"type": "response.output_text.done", "text": HELLO},
    ]


@pytest.mark.parametrize(("observer", "events"), [
    (ChatObserver(hide_usage=False), chat_events()), (MessagesObserver(), message_events()),
    (ResponsesObserver([]), response_events()),
])  # fmt: skip
def test_a_stream_is_the_text_of_its_events(observer: StreamObserver, events: list[dict[str, Any]]) -> None:
    for one in events:
        observer.feed(event(one))
    assert observer.seen.counts is None
    assert observer.estimated_output() == 6, "six words, a piece of text each, and no event more"


def test_a_long_stream_is_taken_to_be_like_its_beginning() -> None:
    observer = ChatObserver(hide_usage=False)
    words = 4000
    for _ in range(words):
        observer.feed(event({"choices": [{"index": 0, "delta": {"content": "word "}}]}))
    assert observer._bytes > 4 * KEPT > 2 * observer._bytes_kept
    assert abs(observer.estimated_output() - words * 5 // 4) <= words // 50, "five bytes a word"


def test_quoted_names_in_text_are_text() -> None:
    text = text_members("content")
    body = json.dumps({"content": 'he wrote "content": "aaaaaaaaaaaaaaaaaaaaaaaa"'}).encode()
    assert len(text.findall(body)) == 1


def test_nothing_known_is_taken_whole_and_nothing_is_nothing() -> None:
    text = text_members("content")
    assert tokens_in(b'{"strange": "shape, 30 bytes"}', 30, text) == 8
    assert tokens_in(b"", 0, text) == 0
    assert tokens_in(b'{"content": null}', 17, text) == 0
    assert tokens_in(b'{"content": ""}', 15, text, stream=True) == 0


def test_of_a_vendor_that_counts_an_answer_without_text_has_none() -> None:
    text = text_members("content")
    assert tokens_in(b'{"output": [], "usage": {}}', 27, text, counted=True) == 0
    assert tokens_in(b'{"content": "12345678"}', 23, text, counted=True) == 2


def test_the_bytes_of_a_picture_are_no_text() -> None:
    picture = b"iVBORw0KGgo" * 100_000
    body = b'{"messages": "look", "url": "data:image/png;base64,%b"}' % picture
    assert prompt_tokens(body, images=1, most=1 << 40) == IMAGE_TOKENS + 14
    assert prompt_tokens(body, images=1, most=5000) == 5000, "no more than the model's window"
    assert prompt_tokens(b"x" * 400, images=2, most=1 << 40) == 100 + 2 * IMAGE_TOKENS
