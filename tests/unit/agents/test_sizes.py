"""The bound on what a request may cost in tokens is a bound on its JSON, too."""

from carrel.agents.sizes import images_in, message_bytes, request_bytes, text_of, tool_bytes
from carrel.wire.conversation import Image, Message, ModelRequest, Text, Thinking, ToolCall, ToolResult, ToolSpec

MESSAGE = Message(
    "user",
    (Text("grüße"), Thinking("hm", "signature"), ToolCall("c1", "shell", '{"a": 1}'), ToolResult("c1", "done"),
     Image(data="A" * 10_000)),
)  # fmt: skip
TOOL = ToolSpec("shell", "Run ü", {"type": "object", "properties": {"command": {"type": "string"}}})


def test_every_text_counts_in_bytes_and_images_by_number() -> None:
    said = len("grüße".encode()) + len("hm" + "signature") + len("c1" + "shell" + '{"a": 1}') + len("c1" + "done")
    assert said < message_bytes(MESSAGE) < said + 1000
    assert images_in([MESSAGE, MESSAGE]) == 2


def test_a_request_is_all_of_its_parts() -> None:
    request = ModelRequest("m", (MESSAGE,), system="ä" * 100, tools=(TOOL,))
    assert request_bytes(request) >= message_bytes(MESSAGE) + 200 + tool_bytes([TOOL])
    assert tool_bytes([TOOL]) > len('{"type": "object", "properties": {"command": {"type": "string"}}}')


def test_text_is_what_is_said_in_words() -> None:
    assert text_of(Message("assistant", (Text("a"), Thinking("b"), Text("c")))) == "ac"
