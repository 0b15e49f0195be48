"""What is folded up, and what it becomes: by table, and for any conversation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents.compaction import (
    EXCERPT_BYTES,
    INSTRUCTIONS,
    excerpt,
    fitted,
    rendered,
    request_for_summary,
    room,
    split,
    tokens_of,
)
from carrel.agents.history import Said
from carrel.errors import TooLarge
from carrel.policy.estimate import IMAGE_TOKENS
from carrel.wire.conversation import Image, Message, Text, Thinking, ToolCall, ToolResult


def user(number: int, text: str) -> Said:
    return Said(Message("user", (Text(text),)), number)


def assistant(number: int, text: str) -> Said:
    return Said(Message("assistant", (Text(text),)), number)


def round_of(number: int, size: int) -> list[Said]:
    return [
        Said(Message("assistant", (ToolCall(f"c{number}", "shell", "{}"),)), number),
        Said(Message("user", (ToolResult(f"c{number}", "r" * size),)), number + 1),
    ]


def test_the_newest_stay_and_the_rest_is_folded_up() -> None:
    said = [user(1, "a" * 3000), assistant(2, "b" * 3000), user(3, "c" * 3000), assistant(4, "d")]
    parts = split(said, most=1500)
    assert parts is not None
    assert (list(parts.old), list(parts.recent), parts.keep_from) == (said[:2], said[2:], 3)


def test_a_call_and_its_result_are_not_parted() -> None:
    said = [user(1, "a"), *round_of(2, 30_000), *round_of(4, 30_000)]
    parts = split(said, most=10)
    assert parts is not None
    assert list(parts.recent) == said[3:]
    assert parts.keep_from == 4


def test_where_nothing_is_older_there_is_nothing_to_fold() -> None:
    assert split([], most=10) is None
    assert split([user(1, "a" * 9999)], most=10) is None
    assert split([Said(Message("user", (Text("summary"),))), user(2, "a" * 9999)], most=10) is None


def test_the_request_fits_the_window_and_holds_the_conversation() -> None:
    said = [user(1, "my name is Ada"), *round_of(2, 100_000), assistant(4, "z" * 200_000)]
    request = request_for_summary(said, model="m", context_window=8192, max_output=4096)
    [block] = request.messages[0].content
    assert isinstance(block, Text)
    assert block.text.startswith(INSTRUCTIONS)
    assert "User: my name is Ada" in block.text
    assert "Assistant calls shell" in block.text
    assert tokens_of(request.messages) + request.max_tokens <= 8192
    assert not request.tools


def test_an_excerpt_is_short_and_says_what_it_is() -> None:
    text = excerpt([user(1, "first" + "x" * 50_000), assistant(2, "y" * 50_000 + "last")])
    assert "no summary could be written" in text
    assert "User: first" in text
    assert text.endswith("last")
    assert len(text) < EXCERPT_BYTES + 200


def test_rendering_names_who_did_what() -> None:
    said = [
        Said(Message("user", (Text("look"), Image(data="aa"))), 1),
        Said(Message("assistant", (Thinking("hidden"), ToolCall("c", "shell", '{"command": "ls"}'))), 2),
        Said(Message("user", (ToolResult("c", "boom", is_error=True),)), 3),
    ]
    assert rendered(said) == (
        'User: look\nUser shows an image.\nAssistant calls shell: {"command": "ls"}\nResult (failed): boom'
    )


def test_long_results_are_shortened_oldest_first_and_words_never() -> None:
    messages = [item.message for item in [user(1, "do"), *round_of(2, 60_000), *round_of(4, 6000)]]
    small = fitted(messages, most=6000, around=100)
    assert tokens_of(small, around=100) <= 6000
    assert small[0] == messages[0]
    assert small[4] == messages[4]
    assert fitted(messages, most=60_000, around=0) == tuple(messages)
    with pytest.raises(TooLarge):
        fitted([user(1, "x" * 60_000).message], most=6000, around=0)


@pytest.mark.parametrize(("window", "output"), [(256, 16), (8192, 4096), (200_000, 8192), (4096, 4096)])
def test_there_is_room_and_it_is_within_the_window(window: int, output: int) -> None:
    assert 0 < room(window, output) < window


def test_images_count_by_number() -> None:
    assert tokens_of([Message("user", (Image(data="A" * 10**6),))]) < IMAGE_TOKENS + 100


kinds = st.lists(st.tuples(st.sampled_from(["user", "assistant", "round"]), st.integers(0, 3000)), max_size=12)


@given(kinds, st.integers(0, 3000))
def test_any_split_keeps_everything_in_order(plan: list[tuple[str, int]], most: int) -> None:
    said: list[Said] = []
    for number, (kind, size) in enumerate(plan):
        at = 2 * number + 1
        if kind == "round":
            said += round_of(at, size)
        else:
            said.append(user(at, "x" * size) if kind == "user" else assistant(at, "x" * size))
    parts = split(said, most=most)
    if parts is None:
        return
    assert [*parts.old, *parts.recent] == said
    assert parts.recent
    assert not any(isinstance(block, ToolResult) for block in parts.recent[0].message.content)
    assert parts.keep_from == parts.recent[0].entry_id
