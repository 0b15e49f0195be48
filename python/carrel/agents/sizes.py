"""How large what goes to a model is: in bytes, for the bound on its tokens, and in images."""

import json
from collections.abc import Iterable
from typing import Final

from carrel.wire.conversation import Image, Message, ModelRequest, Text, Thinking, ToolCall, ToolResult, ToolSpec

AROUND: Final = 64
"""Bytes of JSON around one block, message or tool; longer than the tokens that a vendor's template puts there."""


def message_bytes(message: Message) -> int:
    """The bytes of ``message`` without its images."""
    return AROUND + sum(AROUND + _block_bytes(block) for block in message.content)


def tool_bytes(tools: Iterable[ToolSpec]) -> int:
    """The bytes of tool declarations."""
    return sum(
        AROUND + len(tool.name) + len(tool.description.encode()) + len(json.dumps(tool.parameters)) for tool in tools
    )


def request_bytes(request: ModelRequest) -> int:
    """The bytes of all that ``request`` says."""
    said = sum(message_bytes(message) for message in request.messages)
    return said + tool_bytes(request.tools) + len(request.system.encode()) + AROUND


def images_in(messages: Iterable[Message]) -> int:
    """How many images ``messages`` hold."""
    return sum(isinstance(block, Image) for message in messages for block in message.content)


def text_of(message: Message) -> str:
    """What ``message`` says in words."""
    return "".join(block.text for block in message.content if isinstance(block, Text))


def _block_bytes(block: object) -> int:
    match block:
        case Text(text):
            return len(text.encode())
        case Thinking(text, signature, redacted):
            return len(text.encode()) + len(signature) + len(redacted)
        case ToolCall(call_id, name, arguments):
            return len(call_id) + len(name) + len(arguments.encode())
        case ToolResult(call_id, content):
            return len(call_id) + len(content.encode())
        case Image(url=url):
            return len(url)
    return 0
