import io
import json
import sys
from itertools import pairwise

import pytest

from carrel.cli import screen
from carrel.cli.screen import Cleaner, clean, one_line

HOSTILE = {
    "\x1b[31mred\x1b[0m": "red",
    "\x1b]0;title\x07after": "after",
    "\x1b]52;c;aGk=\x1b\\after": "after",
    "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\": "link",
    "\x1bP1$r\x1b\\x": "x",
    "\x9b31mred": "red",
    "\x9d0;title\x9cafter": "after",
    "\x1b[?1049h\x1b[2J\x1b[Hx": "x",
    "\x1b(0x\x1bcy\x1b7z": "xyz",
    "a\rb\x08c\x00d\x7fe\x07f": "abcdef",
    "line\r\nnext\ttab": "line\nnext\ttab",
    "admin\u202etxt.exe": "admintxt.exe",
    "a\u2066b\u2069": "ab",
    "\x1b": "",
    "\x1b]never closed": "]never closed",
    "\x1b\x1b[31mx": "x",
    "\x1b[\x1b[31mm": "[m",
}
HARMLESS = ["plain", "two\nlines\tand a tab", "naïve Ω 漢字 😀", "שלום", "[31m is text", ""]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_acts_on_a_terminal_is_taken_out(text: str) -> None:
    assert clean(text) == HOSTILE[text]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_text_stays(text: str) -> None:
    assert clean(text) == text
    assert Cleaner().feed(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_in_pieces_of_every_size_it_comes_out_the_same(text: str) -> None:
    for size in range(1, len(text) + 1):
        cleaner = Cleaner()
        cuts = [*range(0, len(text), size), len(text)]
        shown = "".join(cleaner.feed(text[a:b]) for a, b in pairwise(cuts)) + cleaner.finish()
        assert not set(shown) & set("\x1b\x07\x9b\x9d\x08\x00\r\u202e")
        assert shown == HOSTILE[text], (size, text)


def test_a_beginning_without_end_does_not_hold_the_answer_back_for_good() -> None:
    cleaner = Cleaner()
    shown = "".join(cleaner.feed("\x1b]" if i == 0 else "x" * 100) for i in range(60))
    assert shown.startswith("]xxx")
    assert "\x1b" not in shown


def test_text_after_a_lone_escape_is_shown_at_once() -> None:
    cleaner = Cleaner()
    assert cleaner.feed("a\x1b") == "a"
    assert cleaner.feed("\nb") == "\nb"


def test_half_a_surrogate_is_shown_as_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert clean("a\ud800b") == "a\ufffdb"
    screen.show_json({"a": "\ud800"}, indent=None)
    assert json.loads(capsys.readouterr().out) == {"a": "\ud800"}


def test_one_line() -> None:
    assert one_line(" a\n\x1b[2J b\t c ") == "a b c"


def test_json_keeps_every_value_and_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"text": "".join(chr(c) for c in range(0x100)) + "\u202e漢", "n": 1}
    screen.show_json(document)
    out = capsys.readouterr().out
    assert json.loads(out) == document
    assert "漢" in out
    assert not any((ord(c) < 0x20 and c != "\n") or 0x7F <= ord(c) < 0xA0 or c == "\u202e" for c in out)


def test_columns_are_as_wide_as_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    screen.table(("A", "LONGER"), [("漢字", "x"), ("y" * 300, None), ("a\x1b[31m\nb", "")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A" + " " * 301 + "LONGER"
    assert lines[1] == "漢字" + " " * 298 + "x"
    assert lines[2] == "y" * 300 + "  -"
    assert lines[3] == "a b" + " " * 299 + "-"


def test_notes_and_complaints_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    screen.say("said\x1b[2J")
    screen.write("written")
    screen.note("noted\x1b[2J")
    screen.complain("wrong\x1b[2J")
    wrote = capsys.readouterr()
    assert wrote.out == "said\nwritten"
    assert wrote.err == "noted\ncarrel: wrong\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert screen.styled("x", "31", stream=Terminal()) == "\x1b[31mx\x1b[0m"
    assert screen.styled("x", "31", stream=io.StringIO()) == "x"
    monkeypatch.setenv("TERM", "dumb")
    assert screen.styled("x", "31", stream=Terminal()) == "x"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert screen.styled("x", "31", stream=Terminal()) == "x"
    assert not screen.wants_colour(sys.stdout)
