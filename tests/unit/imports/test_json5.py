"""JSON5 as people write it; the examples of its specification and what is wrong, with the place."""

from typing import Any

import pytest

from carrel.errors import InvalidRequest
from carrel.imports.json5 import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}), (" [1,] ", [1]), ("{a: 1, 'b': 2, \"c\": 3,}", {"a": 1, "b": 2, "c": 3}),
        ("// one\n/* two\n */ null // three", None), ("[true, false,\n]", [True, False]),
        ("[+1, -2, .5, 5., 0xDECAF, 1e3, -0.5E-1]", [1, -2, 0.5, 5.0, 0xDECAF, 1000.0, -0.05]),
        (r"'it\'s \"so\" \x41\u0042 \
on'", 'it\'s "so" AB on'),
        (r'"\ud83e\udd9e"', "🦞"), ("{$a_b: 1, ünï: 2}", {"$a_b": 1, "ünï": 2}), ("\ufeff{}", {}),
        ('"\u2028"', "\u2028"),
    ],
)  # fmt: skip
def test_what_is_right(text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1, column 1: the text ends where a value should be"), ("{a: 1", "a comma or '}' is missing"),
        ("{\n  a: 1,\n  a: 2}", "line 3, column 4: the key 'a' is there twice"), ("[1 2]", "a comma"),
        ("{a 1}", "a colon is missing"), ("nul", "this is no value"), ("{} x", "something follows the end"),
        ("'abc", "a text has no end"), ("'a\nb'", "a text has no end"), (r"'\xZZ'", "an escape is none"),
        ("{1: 2}", "a key is missing"), ("Infinity", "this is no value"), ("[" * 100, "over 64 levels deep"),
        ("{a: function() {}}", "this is no value"), ("1" * 300 + "x", "something follows"),
        ("{a: -1e999}", "line 1, column 11: a number is too large"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match="line") as told:
        parse(text)
    assert said in told.value.message


def test_a_number_of_many_digits_costs_little() -> None:
    assert isinstance(parse("9" * 300), float)
    with pytest.raises(InvalidRequest, match="a number is too large"):
        parse("9" * 5_000_000)


def test_half_of_a_pair_is_no_character() -> None:
    assert parse(r"'\ud800x \uDC00 \ud83e\udd9e'") == "\ufffdx \ufffd \U0001f99e"
