"""Items of responses, both ways."""

from typing import Any

import pytest
from hypothesis import given

from carrel.errors import InvalidRequest
from carrel.wire.conversation import Image, Message, Text, Thinking, ToolCall, ToolResult
from carrel.wire.proofs import seal
from carrel.wire.responses_items import conversation, item_of, listed, sent_again
from tests.unit.wire.rounds import conversations


def items(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """A conversation as a caller of this dialect writes it."""
    out: list[dict[str, Any]] = []
    for message in messages:
        for number, block in enumerate(message.content):
            match block:
                case Text(text) if message.role == "user":
                    out.append({"role": "user", "content": [{"type": "input_text", "text": text}]})
                case Image():
                    out.append({"role": "user", "content": [picture(block)]})
                case ToolResult(call_id, content, _, images):
                    parts = [{"type": "input_text", "text": content}, *map(picture, images)]
                    out.append({"type": "function_call_output", "call_id": call_id, "output": parts})
                case _:
                    out.append(item_of(block, str(number)))
    return out


def picture(image: Image) -> dict[str, Any]:
    return {"type": "input_image", "image_url": image.url or f"data:{image.media_type};base64,{image.data}"}


@given(conversations())
def test_a_conversation_is_read_back_whole(messages: tuple[Message, ...]) -> None:
    assert conversation(items(messages)) == ([], messages)


def test_short_forms_and_instructions_among_them() -> None:
    system, messages = conversation([
        {"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "another's"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "done"},
    ])  # fmt: skip
    assert system == ["be brief"]
    assert messages == (
        Message("user", (Text("hi"),)),
        Message("assistant", (Text("no"), Thinking("hm"), ToolCall("c", "f", "{}"))),
        Message("user", (ToolResult("c", "done"),)),
    )


def test_items_are_listed_in_their_long_form_each_with_an_id() -> None:
    call = {"type": "function_call", "id": "fc_own", "call_id": "c", "name": "f", "arguments": "{}"}
    shown = listed([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}, call], "resp_1")
    assert [item["id"] for item in shown] == ["msg_1_0", "msg_1_1", "fc_own"]
    assert [item["content"][0]["type"] for item in shown[:2]] == ["input_text", "output_text"]


def test_what_is_sent_again_has_no_ids_that_nobody_kept_and_its_own_vendors_reasoning_alone() -> None:
    ours = seal(Thinking("hm", "proof"))
    items: list[dict[str, Any]] = [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": ours},
        {"type": "reasoning", "id": "rs_3", "summary": [], "encrypted_content": "the vendor's"},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": []},
    ]
    assert sent_again(items) == [items[2], {"type": "message", "role": "assistant", "content": []}]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "item_reference", "id": "x"}, "input[0]"), ({"type": "web_search_call", "id": "x"}, "input[0]"),
        ({"type": "function_call_output", "call_id": "c", "output": "x"}, "input[0].call_id"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]},
         "input[0].content[0].image_url"),
        ({"role": "user", "content": [{"type": "input_text", "text": "x", "odd": 1}]}, "input[0].content[0].odd"),
        ({"role": "user", "content": 7}, "input[0].content"),
        ({"role": "user", "content": "x", "odd": 1}, "input[0].odd"),
        ({"role": "robot", "content": "x"}, "input[0]"), ({"role": "user", "content": ""}, "input"),
        ({"role": "system", "content": [{"type": "input_image", "image_url": "https://x"}]}, "input[0].content"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_is_refused_by_its_place(item: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        conversation([item])
    assert refused.value.param == param
