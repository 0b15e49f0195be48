"""The demo provider's rules, as docs/reference/demo-provider.md states them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.declare.rate_card import TokenCounts
from carrel.providers.demo import HELP, PIECE_CHARACTERS, QUOTED_CHARACTERS, DemoProvider, tokens_in
from carrel.wire.conversation import (
    Finished,
    Image,
    Message,
    ModelRequest,
    Text,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "demo-provider.md"
TOOLS = tuple(ToolSpec(name, "", {}) for name in ("shell", "file_read", "file_write", "file_list"))


def ask(*content: str, **fields: object) -> ModelRequest:
    request = ModelRequest("demo", (Message("user", tuple(Text(c) for c in content)),), tools=TOOLS)
    return replace(request, **fields)  # type: ignore[arg-type] # each test names real fields


async def answer(request: ModelRequest) -> Finished:
    events = [event async for event in DemoProvider().stream(request)]
    finished = events[-1]
    assert isinstance(finished, Finished)
    said = "".join(e.text for e in events if isinstance(e, TextDelta))
    assert said == text(finished)
    assert all(len(e.text) <= PIECE_CHARACTERS for e in events if isinstance(e, TextDelta | ThinkingDelta))
    return finished


def text(finished: Finished) -> str:
    return "".join(b.text for b in finished.message.content if isinstance(b, Text))


async def calls(message: str) -> list[tuple[str, str]]:
    finished = await answer(ask(message))
    found = [(b.name, b.arguments) for b in finished.message.content if isinstance(b, ToolCall)]
    assert finished.stop == ("tool_calls" if found else "end")
    return found


@pytest.mark.parametrize(
    ("message", "name", "arguments"),
    [
        ("run: uname -a; ls | wc -l", "shell", {"command": "uname -a; ls | wc -l"}),
        ("run:ls", "shell", {"command": "ls"}),
        ("run: cat <<EOF\n  a\n\nEOF\n", "shell", {"command": "cat <<EOF\n  a\n\nEOF\n"}),
        ("\n  run: ls", "shell", {"command": "ls"}),
        ("run: echo 'ü'\nrun: not a rule here", "shell", {"command": "echo 'ü'\nrun: not a rule here"}),
        ("read: notes/a b.txt ", "file_read", {"path": "notes/a b.txt"}),
        ("write: a.txt\nfirst\n second\n", "file_write", {"path": "a.txt", "content": "first\n second\n"}),
        ("write: a.txt", "file_write", {"path": "a.txt", "content": ""}),
        ('tool: file_list {"path": "."}', "file_list", {"path": "."}),
        ("tool: file_list", "file_list", {}),
        ('tool: file_list {\n "path": "."\n}', "file_list", {"path": "."}),
    ],
)
async def test_a_message_by_rule_becomes_its_call(message: str, name: str, arguments: dict[str, str]) -> None:
    ((called, given),) = await calls(message)
    assert called == name
    assert json.loads(given) == arguments


async def test_several_tool_lines_are_called_side_by_side() -> None:
    message = 'tool: shell {"command": "a"}\n\ntool: shell {"command": "b"}'
    assert await calls(message) == [("shell", '{"command": "a"}'), ("shell", '{"command": "b"}')]
    one = await answer(ask(message, parallel_tool_calls=False))
    assert len(one.message.content) == 1


async def test_bad_json_is_handed_on_as_a_model_would() -> None:
    assert await calls('tool: shell {"command": ') == [("shell", '{"command":')]


@pytest.mark.parametrize(
    "message", ["hello", "running: fast", "run:", "run:  \n", "read:", "read: a\nb", "write:", "tool:"]
)
async def test_anything_else_is_told_what_it_can_do(message: str) -> None:
    finished = await answer(ask(message))
    assert text(finished) == HELP
    assert finished.stop == "end"


@pytest.mark.parametrize("fields", [{"tools": TOOLS[1:]}, {"tools": ()}, {"tool_choice": "none"}])
async def test_a_tool_that_was_not_offered_is_not_called(fields: dict[str, object]) -> None:
    finished = await answer(ask("run: ls", **fields))
    assert finished.stop == "end"
    assert text(finished).startswith("I was not offered the tool `shell`.")


def results(*found: ToolResult, also: str = "") -> ModelRequest:
    called = Message("assistant", tuple(ToolCall(r.call_id, "shell", "{}") for r in found))
    back = Message("user", (*found, *((Text(also),) if also else ())))
    return ask("run: x", messages=(Message("user", (Text("run: x"),)), called, back))


async def test_results_are_quoted_in_order() -> None:
    finished = await answer(results(ToolResult("1", "out\n"), ToolResult("2", "bad", is_error=True)))
    assert text(finished) == "`shell` gave:\n\n```\nout\n```\n\n`shell` failed:\n\n```\nbad\n```"
    assert finished.stop == "end"


async def test_a_fence_is_longer_than_those_inside_and_long_output_is_cut() -> None:
    assert "````\n```x```\n````" in text(await answer(results(ToolResult("1", "```x```"))))
    long = text(await answer(results(ToolResult("1", "y" * (QUOTED_CHARACTERS + 5)))))
    assert long.endswith("\n(5 more characters are left out here.)")
    assert long.count("y") == QUOTED_CHARACTERS


async def test_a_message_after_results_is_a_new_one() -> None:
    finished = await answer(results(ToolResult("1", "out"), also="run: ls"))
    assert [b for b in finished.message.content if isinstance(b, ToolCall)] == [
        ToolCall("demo_2", "shell", '{"command": "ls"}')
    ]


async def test_tokens_are_a_quarter_of_the_bytes_rounded_up() -> None:
    assert tokens_in("", "a", "abcd", "abcde", "ü€") == 0 + 1 + 1 + 2 + 2
    finished = await answer(
        ModelRequest("demo", (Message("user", (Text("12345678"), Image(data="x"))),), system="1234")
    )
    assert finished.usage == TokenCounts(input=1 + 2 + 64, output=tokens_in(HELP))
    again = await answer(ask("run: ls"))
    assert again.usage == (await answer(ask("run: ls"))).usage


async def test_limits() -> None:
    cut = await answer(ask("hello", max_tokens=3))
    assert (text(cut), cut.stop) == (HELP[:12], "length")
    assert cut.usage is not None
    assert cut.usage.output == 3
    stopped = await answer(ask("hello", stop=("rules",)))
    assert (text(stopped), stopped.stop) == (HELP[: HELP.index("rules")], "stop_sequence")
    no_room = await answer(ask("run: " + "x" * 100, max_tokens=4))
    assert (no_room.message.content, no_room.stop) == ((), "length")


async def test_thinking_is_counted_apart() -> None:
    finished = await answer(ask("run: ls", thinking="low"))
    assert finished.usage is not None
    assert finished.usage.reasoning > 0


async def test_the_page_names_every_rule_and_its_examples_work() -> None:
    page = PAGE.read_text()
    for word in ("run:", "read:", "write:", "tool:", str(QUOTED_CHARACTERS), str(PIECE_CHARACTERS), "64 tokens"):
        assert word.replace("8000", "8,000") in page, word
    examples = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert len(examples) >= 5
    for example in examples:
        assert await calls(example.rstrip("\n")), example
