from typing import Any

import pytest

from carrel.cli.talk import TurnView
from carrel.wire.control import ChatEvent


def show(*events: dict[str, Any]) -> None:
    view = TurnView()
    for event in events:
        view.show(ChatEvent.model_validate(event))
    view.close()


TURN = (
    {"kind": "session", "session": "s", "agent": "main"},
    {"kind": "thinking", "text": "hm"},
    {"kind": "text", "text": "I look "},
    {"kind": "text", "text": "there."},
    {"kind": "notice", "text": "the session was\nsummarised"},
    {"kind": "tool_started", "id": "1", "name": "shell", "arguments": '{"command": "ls"}'},
    {"kind": "tool_output", "id": "1", "text": "a\n"},
    {"kind": "tool_output", "id": "1", "text": "b"},
    {"kind": "tool_finished", "id": "1", "name": "shell", "content": "a\nb", "is_error": False, "seconds": 0.25},
    {"kind": "tool_started", "id": "2", "name": "file_read", "arguments": "{}"},
    {"kind": "tool_finished", "id": "2", "name": "file_read", "content": "no such file", "is_error": True},
    {"kind": "text", "text": "Done."},
    {"kind": "finished", "session": "s", "text": "I look there.Done.", "stop": "end"},
)


def test_a_turn_in_its_order(capsys: pytest.CaptureFixture[str]) -> None:
    show(*TURN)
    assert capsys.readouterr().out.splitlines() == [
        "hm",
        "I look there.",
        "(the session was summarised)",
        '» shell {"command": "ls"}',
        "a",
        "b",
        "« shell done in 0.25 s",
        "» file_read {}",
        "no such file",
        "« file_read failed",
        "Done.",
    ]


def test_calls_side_by_side_do_not_run_into_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = [{"kind": "tool_output", "id": i, "text": t} for i, t in (("1", "a"), ("2", "x"), ("1", "b"))]
    show(*outputs)
    assert capsys.readouterr().out == "a\nx\nb\n"


def test_nothing_hostile_gets_through_in_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\rx"
    show(
        *({"kind": "text", "text": c} for c in evil),
        *({"kind": "tool_output", "id": "1", "text": c} for c in evil),
        {"kind": "tool_started", "id": "1", "name": evil, "arguments": evil},
        {"kind": "tool_finished", "id": "1", "name": evil, "content": evil, "seconds": 1.0},
        {"kind": "tool_finished", "id": "9", "name": evil, "content": evil},
        {"kind": "notice", "text": evil},
        {"kind": "thinking", "text": evil},
    )
    out = capsys.readouterr().out
    assert not any(c in out for c in "\x1b\x07\x9b\r")
    assert "52;c" not in out


def test_long_arguments_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show({"kind": "tool_started", "id": "1", "name": "file_write", "arguments": "x" * 100_000})
    assert len(capsys.readouterr().out) < 3000
