import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.relay.splice import add_member, drop_items, find_members, replace_members, start_of

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
values = st.recursive(scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=6), v, max_size=4))
objects = st.dictionaries(st.sampled_from(["model", "stream", "messages", "x", 'a"b', "\\", "é"]), values, min_size=1)


@given(objects, st.booleans(), st.sampled_from([None, 1, 3]))
def test_only_the_named_members_change(value: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    new = {"model": 'other "name"', "stream_options": {"include_usage": True}}
    changed = replace_members(body, new)
    assert json.loads(changed) == {**value, **new}
    assert json.loads(changed, object_pairs_hook=len) == len({**value, **new})


@given(objects)
def test_members_are_where_they_are_said_to_be(value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    found = find_members(body, value)
    assert {name: json.loads(body[start:end]) for name, (start, end) in found.items()} == value
    assert {name: start_of(body, name) for name in value} == {name: start for name, (start, _) in found.items()}
    with pytest.raises(KeyError):
        start_of(body, "none")


def test_bytes_around_stay_as_they_are() -> None:
    body = b' {\n "messages" : [ {"model": "no"} ], "mod\\u0065l"\t:  "a" , "n":1.0e2 } \n'
    assert replace_members(body, {"model": "b"}) == body.replace(b'"a"', b'"b"')
    assert add_member(b' {"a":1}', b'"b":2') == b' {"b":2,"a":1}'
    assert replace_members(b'{"a":1}', {"b": 2}) == b'{"b":2,"a":1}'
    assert replace_members(b'{"b":{"c":[1]},"a":1}', {"b": None}) == b'{"b":null,"a":1}'


@pytest.mark.parametrize(
    ("numbers", "left"),
    [((), b'[{"a":[1,{}]},"x]",1.0]'), ((0,), b'["x]",1.0]'), ((1, 2), b'[{"a":[1,{}]}]'), ((0, 1, 2), b"[]")],
)
def test_items_are_taken_out_and_the_others_stay_as_they_are(numbers: tuple[int, ...], left: bytes) -> None:
    body = b'{"k": 1, "t" : [ {"a":[1,{}]} , "x]", 1.0 ], "z": [9]}'
    assert drop_items(body, "t", numbers) == b'{"k": 1, "t" : %b, "z": [9]}' % left
    assert drop_items(b'{"t":[]}', "t", numbers) == b'{"t":[]}'


def test_half_a_surrogate_pair_is_put_in_as_it_was_there() -> None:
    body = replace_members(b'{"a":1}', {"a": {"\ud800": "\U0001f600"}})
    assert json.loads(body) == {"a": {"\ud800": "\U0001f600"}}
