"""An id of one's own in a vendor's answer, and nothing else of it changed."""

import json
from typing import Any

import pytest

from carrel.relay.observe import record_in
from carrel.relay.renamed import renamed, renamed_event


@pytest.mark.parametrize(
    ("body", "made"),
    [
        (b'{"id": "a", "n": 1.10, "x": {"id": "b"}}', b'{"id": "own", "n": 1.10, "x": {"id": "b"}}'),
        (b'\n {"n":1}', b'\n {"id":"own","n":1}'),
        (b'{"x": {"id": "b"}, "id": null}', b'{"x": {"id": "b"}, "id": "own"}'),
    ],
)
def test_the_rest_stays_as_it_was_written(body: bytes, made: bytes) -> None:
    assert renamed(body, record_in(body), "own") == made


@pytest.mark.parametrize(
    "body", [b'{"id": "a", "n": 1, "id": "b"}', '{"id": "a", "n": 1}'.encode("utf-16"), b"{}", b'{"i\\u0064": "a"}']
)
def test_what_can_be_read_in_two_ways_is_written_anew(body: bytes) -> None:
    record = record_in(body)
    assert record_in(renamed(body, record, "own")) == record | {"id": "own"}


def test_the_id_of_a_member() -> None:
    body = b'{"type": "x", "id": "a", "response": {"output": [{"id": "m"}], "id": "b"}, "n": 1}'
    made = renamed(body, record_in(body), "own", within="response")
    assert made == body.replace(b'"id": "b"', b'"id": "own"')
    twice = b'{"response": {"id": "b", "id": "c"}}'
    assert json.loads(renamed(twice, record_in(twice), "own", within="response")) == {"response": {"id": "own"}}


@pytest.mark.parametrize(
    ("event", "made"),
    [
        (b'data: {"id": "a"}\n\n', b'data: {"id": "own"}\n\n'),
        (b'event: e\r\ndata:{"id":"a"}\r\n\r\n', b'event: e\ndata: {"id":"own"}\n\n'),
        (b'\xef\xbb\xbfdata: {"id":\ndata: "a"}\n\n', b'data: {"id":\ndata: "own"}\n\n'),
    ],
)
def test_an_event_keeps_what_else_it_says(event: bytes, made: bytes) -> None:
    record: dict[str, Any] = {"id": "a"}
    assert renamed_event(event, record, "own") == made
