import pytest

from carrel.errors import InvalidRequest
from carrel.relay.body import count_in, model_in, parse_body, stream_in


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
