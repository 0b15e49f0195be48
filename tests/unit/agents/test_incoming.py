"""What a caller brings is taken once: all of it into a new session, what is new into one that began."""

import pytest

from carrel.agents.incoming import taken
from carrel.errors import InvalidRequest
from carrel.wire.conversation import Image, Message, Text, ToolResult


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def assistant(text: str) -> Message:
    return Message("assistant", (Text(text),))


HISTORY = (user("a"), assistant("b"), user("c"), user("d"))


def test_a_new_session_takes_the_whole_history() -> None:
    assert taken(HISTORY, begun=False) == HISTORY


def test_one_that_began_takes_what_follows_the_last_assistant_message() -> None:
    assert taken(HISTORY, begun=True) == (user("c"), user("d"))
    assert taken((user("x"),), begun=True) == (user("x"),)


def test_an_image_alone_says_something() -> None:
    message = Message("user", (Image(data="aa"),))
    assert taken((message,), begun=True) == (message,)


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize(
    "messages",
    [(), (user("a"), assistant("b")), (user(" \n"),), (Message("user", ()),),
     (user("a"), assistant("b"), Message("user", (ToolResult("c1", "r"),)))],
)  # fmt: skip
def test_the_user_has_the_last_word(messages: tuple[Message, ...], begun: bool) -> None:
    with pytest.raises(InvalidRequest):
        taken(messages, begun=begun)
