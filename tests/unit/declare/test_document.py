import contextlib
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.declare.document import MAX_DEPTH, Document, Unreadable, plain, read
from carrel.declare.problems import Finding


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-1", -1), ("0", 0), ("1.50", Decimal("1.50")), ("1e3", Decimal("1e3")), (".5", Decimal("0.5")),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("0777", "0777"), ("1_000", "1_000"),
        ("0x10", "0x10"), ("1:30", "1:30"), (".inf", ".inf"), (".nan", ".nan"), ("-", "-"), ("-.E5", "-.E5"),
        ("2030-01-01", "2030-01-01"), ("1.2.3", "1.2.3"),
    ],
)  # fmt: skip
def test_plain_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = plain(text)
    assert found == value
    assert type(found) is type(value)


def test_a_fraction_keeps_its_text() -> None:
    assert str(read("a: 0.10\n").values["a"]) == "0.10"


def test_quotes_and_the_text_tag_make_text() -> None:
    assert read("a: \"1\"\nb: '2'\nc: !!str 3\nd: |\n  x\n").values == {"a": "1", "b": "2", "c": "3", "d": "x\n"}


def test_keys_are_their_text() -> None:
    assert read("1: a\nno: b\n2.50: c\n").values == {"1": "a", "no": "b", "2.50": "c"}


def test_sequences_are_tuples() -> None:
    assert read("a: [1, [2], {b: 3}]\n").values == {"a": (1, (2,), {"b": 3})}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~\n"])
def test_an_empty_file_holds_no_keys(text: str) -> None:
    assert read(text) == Document({})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "mapping"), ("a", "mapping"), ("a: 1\n---\nb: 1", "more than one document"), ("a: [", "not YAML"),
        ("a: \x01", "not YAML"), ("\ta: 1", "not YAML"), ("? [a]\n: 1", "a key must be text"),
        ("a: &x 1\n? *x\n: 1", "a key must be text"), ("a: *x", "alias"), ("a: &x [*x]", "alias"),
    ],
)  # fmt: skip
def test_what_is_not_taken_says_where(text: str, message: str) -> None:
    with pytest.raises(Unreadable, match=message) as caught:
        read(text)
    assert caught.value.line >= 1


def test_nesting_is_bounded() -> None:
    fits = MAX_DEPTH - 1
    assert read("a: " + "[" * fits + "]" * fits).values
    with pytest.raises(Unreadable, match="nested deeper"):
        read("a: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_duplicate_keys_tags_and_merge_keys_are_found() -> None:
    document = read("a: 1\na: 2\nb: !x 3\nc: {<<: {d: 1}}\n", places=True)
    assert [str(document.place("f.yaml", finding)) for finding in document.findings] == [
        "f.yaml:2:1: a: the key is there twice",
        "f.yaml:3:4: b: tags (`!name`) are not taken",
        "f.yaml:4:5: c.<<: merge keys are not taken: use a plan or `defaults`",
    ]
    assert document.values["a"] == 1


def test_an_alias_stands_for_its_value() -> None:
    assert read("a: &x {b: [1]}\nc: *x\n").values["c"] == {"b": (1,)}


def test_places_are_those_of_keys_and_of_values() -> None:
    document = read("a:\n  b: [1, x]\n", places=True)
    at_value = document.place("f", Finding(("a", "b", 1), "m"))
    at_key = document.place("f", Finding(("a", "b"), "m", at_key=True))
    missing = document.place("f", Finding(("a", "z"), "m"))
    assert (at_value.line, at_value.column) == (2, 10)
    assert (at_key.line, at_key.column) == (2, 3)
    assert (missing.line, missing.column) == (1, 1)
    assert at_value.path == "a.b[1]"


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(Unreadable):
        assert isinstance(read(text).values, dict)


TEXT = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E) | st.sampled_from("éß☃漢"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXT,
    lambda below: st.dictionaries(TEXT, below, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_json_means_the_same(value: object) -> None:
    assert read(json.dumps({"k": value})).values == {"k": value}
