"""JSON as others write it, into values that can be kept."""

import json

import pytest

from carrel.imports.values import loads, storable


def test_what_json_has_comes_as_it_is() -> None:
    said = {"a": [1, -2.5, True, None, "\u00fc \U0001f99e"], "b": {}}
    assert loads(json.dumps(said)) == loads(json.dumps(said, ensure_ascii=False).encode()) == said


def test_half_of_a_pair_is_taken_out_wherever() -> None:
    assert loads(rb'{"\uD800": ["\udfff", {"x": "\ud83e\udd9e"}]}') == {"?": ["?", {"x": "\U0001f99e"}]}
    assert storable(("a",)) == ("a",)


@pytest.mark.parametrize("text", ["NaN", "[-Infinity]", "1e999", "[" * 100_000, "", "{} x", b"\xff"])
def test_what_json_has_not_is_none(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json tells each in words of its own
        loads(text)
