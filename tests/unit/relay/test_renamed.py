"""An id of one's own in a vendor's answer, and nothing else of it changed."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from carrel.relay import splice
from carrel.relay.observe import record_in
from carrel.relay.renamed import renamed, renamed_event, with_id


@pytest.mark.parametrize(
    ("body", "made"),
    [
        (b'{"id": "a", "n": 1.10, "x": {"id": "b"}}', b'{"id": "own", "n": 1.10, "x": {"id": "b"}}'),
        (b'\n {"n":1}', b'\n {"id":"own","n":1}'),
        (b'{"x": {"id": "b"}, "id": null}', b'{"x": {"id": "b"}, "id": "own"}'),
    ],
)
def test_the_rest_stays_as_it_was_written(body: bytes, made: bytes) -> None:
    assert renamed(body, record_in(body) | {"id": "own"}, "own") == made


@pytest.mark.parametrize(
    "body", [b'{"id": "a", "n": 1, "id": "b"}', '{"id": "a", "n": 1}'.encode("utf-16"), b"{}", b'{"i\\u0064": "a"}']
)
def test_what_can_be_read_in_two_ways_is_written_anew(body: bytes) -> None:
    wanted = record_in(body) | {"id": "own"}
    assert record_in(renamed(body, wanted, "own")) == wanted


def test_the_id_of_a_member() -> None:
    body = b'{"type": "x", "id": "a", "response": {"output": [{"id": "m"}], "id": "b"}, "n": 1}'
    made = renamed(body, with_id(record_in(body), "own", within="response"), "own", within="response")
    assert made == body.replace(b'"id": "b"', b'"id": "own"')
    twice = b'{"response": {"id": "b", "id": "c"}}'
    wanted = {"response": {"id": "own"}}
    assert json.loads(renamed(twice, wanted, "own", within="response")) == wanted


def test_a_long_answer_is_not_looked_through_for_where_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = splice._TOKEN, list[bytes]()

    class Noted:
        def finditer(self, body: bytes) -> Iterator[re.Match[bytes]]:
            for token in real.finditer(body):
                seen.append(token[0])
                yield token

    monkeypatch.setattr(splice, "_TOKEN", Noted())
    whole = {"response": {"id": "a", "output": [{"logprob": number} for number in range(1000)]}, "n": 1}
    wanted = with_id(whole, "own", within="response")
    made = renamed(json.dumps(whole).encode(), wanted, "own", within="response")
    assert made == json.dumps(wanted).encode()
    assert len(seen) < 20


@pytest.mark.parametrize(
    ("event", "made"),
    [
        (b'data: {"id": "a"}\n\n', b'data: {"id": "own"}\n\n'),
        (b'event: e\r\ndata:{"id":"a"}\r\n\r\n', b'event: e\ndata: {"id":"own"}\n\n'),
        (b'\xef\xbb\xbfdata: {"id":\ndata: "a"}\n\n', b'data: {"id":\ndata: "own"}\n\n'),
    ],
)
def test_an_event_keeps_what_else_it_says(event: bytes, made: bytes) -> None:
    wanted: dict[str, Any] = {"id": "own"}
    assert renamed_event(event, wanted, "own") == made
