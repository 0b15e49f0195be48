"""A model's slip is told back to it with its place."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.agents.tools.arguments import ArgumentCheck
from carrel.agents.tools.toolbox import ALL
from carrel.errors import InvalidRequest
from carrel.wire.conversation import ToolSpec

CHECK = ArgumentCheck(
    ToolSpec(
        "demo", "",
        {"type": "object", "properties": {"path": {"type": "string"}, "limit": {"type": "integer", "minimum": 1}},
         "required": ["path"], "additionalProperties": False},
    )
)  # fmt: skip


def test_good_arguments_are_taken() -> None:
    assert CHECK.parse('{"path": "a", "limit": 3}') == {"path": "a", "limit": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"path": 3}', "$.path: 3 is not of type 'string'"),
        ('{"limit": 0}', "'path' is a required property"),
        ('{"path": "a", "limit": 0}', "$.limit: 0 is less than the minimum of 1"),
        ('{"path": "a", "other": 1}', "'other' was unexpected"),
        ("", "'path' is a required property"),
        ('{"path": "a"', "at line 1, column"),
        ("[]", "must be a JSON object"),
        ('"path"', "must be a JSON object"),
        ('{"path": NaN}', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"path": "a\\u0000b"}', "$.path: there is a NUL"),
        ('{"path": "\\ud800"}', "$.path: it is not valid Unicode"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        CHECK.parse(text)
    assert said in caught.value.message


def test_many_slips_are_told_in_bounded_words() -> None:
    with pytest.raises(InvalidRequest) as caught:
        CHECK.parse(json.dumps({"path": list(range(100_000)), "limit": "x" * 100_000}))
    assert len(caught.value.message) < 2000


@given(st.text() | st.binary().map(lambda b: b.decode("utf-8", "surrogateescape")))
def test_any_text_is_taken_or_refused(text: str) -> None:
    for tool in ALL:
        try:
            assert isinstance(ArgumentCheck(tool.spec).parse(text), dict)
        except InvalidRequest:
            continue
