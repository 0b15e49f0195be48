"""JSON-RPC 2.0, with the examples of its specification."""

import json
from typing import Any

import pytest

from carrel.wire import jsonrpc
from carrel.wire.jsonrpc import Call, Malformed, parse


def only(body: bytes) -> Call | Malformed:
    envelope = parse(body)
    assert len(envelope.entries) == 1
    return envelope.entries[0]


def refused(body: bytes) -> int:
    entry = only(body)
    assert isinstance(entry, Malformed)
    return entry.error.code


def test_a_request_with_named_positional_and_no_parameters() -> None:
    assert only(b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"b":2}}') == Call(1, "a", {"b": 2})
    assert only(b'{"jsonrpc":"2.0","id":"x","method":"a","params":[1]}') == Call("x", "a", [1])
    assert only(b'{"jsonrpc":"2.0","id":1.5,"method":"a"}') == Call(1.5, "a", None)


def test_no_id_is_a_notification_and_a_null_one_is_not() -> None:
    assert only(b'{"jsonrpc":"2.0","method":"a"}') == Call(None, "a", None, notification=True)
    assert only(b'{"jsonrpc":"2.0","id":null,"method":"a"}') == Call(None, "a", None, notification=False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',
        b"\xff\xfe",
        b'{"jsonrpc":"2.0","id":NaN,"method":"a"}',
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"1" * 5000,
    ],
)
def test_what_is_not_json_is_a_parse_error(body: bytes) -> None:
    assert refused(body) == jsonrpc.PARSE_ERROR


@pytest.mark.parametrize(
    "value",
    [
        1,
        "x",
        None,
        [],
        {"id": 1, "method": "a"},
        {"jsonrpc": "1.0", "id": 1, "method": "a"},
        {"jsonrpc": "2.0", "id": 1, "method": 1},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "method": "a", "params": "bar"},
        {"jsonrpc": "2.0", "id": 1, "method": "a", "params": None},
        {"jsonrpc": "2.0", "id": True, "method": "a"},
        {"jsonrpc": "2.0", "id": {"x": 1}, "method": "a"},
    ],
)
def test_what_is_no_request_is_an_invalid_request(value: Any) -> None:
    assert refused(json.dumps(value).encode()) == jsonrpc.INVALID_REQUEST


def test_the_id_is_given_back_where_it_could_be_read() -> None:
    entry = only(b'{"jsonrpc":"1.0","id":7,"method":"a"}')
    assert isinstance(entry, Malformed)
    assert entry.id == 7


def test_a_batch_keeps_its_order_and_its_bad_entries() -> None:
    envelope = parse(b'[{"jsonrpc":"2.0","id":1,"method":"a"},1,{"jsonrpc":"2.0","method":"b"}]')
    assert envelope.batch
    first, second, third = envelope.entries
    assert first == Call(1, "a")
    assert isinstance(second, Malformed)
    assert third == Call(None, "b", notification=True)


def test_a_batch_has_a_limit() -> None:
    one = {"jsonrpc": "2.0", "id": 1, "method": "a"}
    assert len(parse(json.dumps([one] * 50).encode()).entries) == 50
    assert refused(json.dumps([one] * 51).encode()) == jsonrpc.INVALID_REQUEST


def test_deep_nesting_is_refused_without_recursion() -> None:
    def nested(depth: int) -> bytes:
        return b'{"jsonrpc":"2.0","id":1,"method":"a","params":' + b"[" * depth + b"]" * depth + b"}"

    assert isinstance(only(nested(50)), Call)
    assert refused(nested(200)) == jsonrpc.INVALID_REQUEST


def test_answers_have_the_specified_members() -> None:
    assert jsonrpc.result(1, {"a": 2}) == {"jsonrpc": "2.0", "id": 1, "result": {"a": 2}}
    error = jsonrpc.RpcError(-32000, "no", {"why": "x"})
    assert jsonrpc.failure(None, error) == {
        "jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": "no", "data": {"why": "x"}},
    }  # fmt: skip
    assert "data" not in jsonrpc.RpcError(-32000, "no").render()
