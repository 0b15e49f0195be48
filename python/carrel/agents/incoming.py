"""What of the messages that a caller brings is taken into a session."""

from collections.abc import Sequence

from carrel.agents.history import sound
from carrel.errors import InvalidRequest
from carrel.wire.conversation import Message, Text, ToolResult


def taken(messages: Sequence[Message], *, begun: bool) -> tuple[Message, ...]:
    """All of ``messages`` for a session without any; else those after the last assistant one.

    Raises InvalidRequest where the last is not something that the user says.
    """
    if begun:
        last = max((at for at, message in enumerate(messages) if message.role == "assistant"), default=-1)
        messages = messages[last + 1 :]
    clean = [sound(message) for message in messages]
    if not clean or clean[-1].role != "user" or not _says_something(clean[-1]):
        raise InvalidRequest("The last message must be the user's, with something in it.", param="messages")
    return tuple(clean)


def _says_something(message: Message) -> bool:
    return any(
        block.text.strip() if isinstance(block, Text) else not isinstance(block, ToolResult)
        for block in message.content
    )
