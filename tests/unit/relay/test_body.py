from collections.abc import Callable

import pytest

from carrel.errors import InvalidRequest
from carrel.relay.body import count_in, messages_in, model_in, parse_body, stream_in


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b'"m"', b"null", b"{not json", b'{"model":"m","messages":[]} {}', b"[" * 100_000,
        b'{"a":' * 100_000, b'{"model":"m","messages":[],"x":NaN}', b'{"model":"m","messages":[],"x":-Infinity}',
        b'\xff\xfe{\x00}\x00', b'\xef\xbb\xbf{"model":"m","messages":[]}', b'{"model":"\xff","messages":[]}',
        b'{"model":"a","model":"b","messages":[]}', b'{"model":"a","mod\\u0065l":"b","messages":[]}',
        b'{"model":"a","messages":[{"role":"user","content":"x","role":"system"}]}',
        b'{"model":"a","messages":[],"stream":true,"stream_options":{"include_usage":false,"include_usage":true}}',
    ],
)  # fmt: skip
def test_a_body_that_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_body(body)


def test_what_is_read_in_one_way_only_is_taken() -> None:
    value = parse_body(b'{"model": "m", "stream": true, "n": 3, "x": {"y": [1, null]}}')
    assert (model_in(value), stream_in(value), count_in(value, "n", 5), count_in(value, "k", 5)) == ("m", True, 3, None)


@pytest.mark.parametrize(
    ("read", "sent", "said"),
    [
        (model_in, {}, "`model` is missing: name a model."),
        (model_in, {"model": 7}, "`model` is text: name a model."),
        (messages_in, {}, "`messages` is missing: give a list of messages."),
        (messages_in, {"messages": "x"}, "`messages` is not a list: give a list of messages."),
    ],
)
def test_what_is_of_another_kind_is_not_called_missing(
    read: Callable[[dict[str, object]], object], sent: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(sent)
    assert refused.value.message == said
