"""Server-sent events: any bytes, split anywhere, and back."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import UpstreamError
from carrel.wire.sse import ServerSentEvent, SseDecoder, encode, encode_comment

LINES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=20)


def decode(data: bytes, *cuts: int) -> list[ServerSentEvent]:
    decoder = SseDecoder()
    events: list[ServerSentEvent] = []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        events += decoder.feed(data[start:end])
    return events + decoder.finish()


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_every_line_ending(end: str) -> None:
    data = f"event: a{end}data: 1{end}data:2{end}id: 7{end}retry: 30{end}{end}data: x{end}{end}".encode()
    assert decode(data) == [ServerSentEvent("1\n2", "a", "7", 30), ServerSentEvent("x", id="7")]


def test_comments_unknown_fields_and_events_without_data_give_nothing() -> None:
    assert decode(b": hi\n\nevent: a\n\nfoo: bar\nretry: x\nid: a\0b\n\n") == []


def test_an_empty_data_line_is_an_event() -> None:
    assert decode(b"data\n\n") == [ServerSentEvent("")]
    assert decode(b"data:\ndata:\n\n") == [ServerSentEvent("\n")]


def test_one_space_alone_is_taken_from_a_value() -> None:
    assert decode(b"data:  two\n\n") == [ServerSentEvent(" two")]


def test_a_byte_order_mark_is_skipped_once() -> None:
    data = b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n"
    for cut in range(6):
        assert decode(data, cut) == [ServerSentEvent("a")]


def test_a_last_event_without_its_blank_line_is_given_and_half_a_line_never() -> None:
    assert decode(b"data: [DONE]\n") == [ServerSentEvent("[DONE]")]
    assert decode(b"data: a\n\ndata: hal") == [ServerSentEvent("a")]


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    assert decode(b"data: \xff\n\n") == [ServerSentEvent("�")]


@pytest.mark.parametrize("data", [b"data: " + b"x" * 200, b"data: 0123456789\n" * 20, b"x" * 200])
def test_an_event_without_end_is_cut(data: bytes) -> None:
    decoder = SseDecoder(max_event_bytes=100)
    with pytest.raises(UpstreamError, match="over 100 bytes"):
        list(map(decoder.feed, (data[at : at + 7] for at in range(0, len(data), 7))))


def test_the_limit_is_for_one_event() -> None:
    decoder = SseDecoder(max_event_bytes=100)
    assert sum(len(decoder.feed(b"data: 0123456789\n\n")) for _ in range(50)) == 50


@given(st.lists(LINES, min_size=1, max_size=4), LINES | st.none(), st.lists(st.integers(0, 200), max_size=6))
def test_what_is_encoded_is_decoded_however_it_is_split(lines: list[str], name: str | None, cuts: list[int]) -> None:
    data = encode("\n".join(lines), event=name) + encode_comment("k\nl") + encode("end")
    assert decode(data, *cuts) == [ServerSentEvent("\n".join(lines), name or "message"), ServerSentEvent("end")]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_splitting_never_changes_what_is_read(data: bytes, cuts: list[int]) -> None:
    assert decode(data, *cuts) == decode(data)


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_a_name_cannot_smuggle_lines(field: str, value: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        encode("x", **{field: value})


def test_half_a_surrogate_pair_is_escaped_as_json_has_it() -> None:
    sent = encode(json.dumps({"text": "x\ud83d"}, ensure_ascii=False))
    assert sent == b'data: {"text": "x\\ud83d"}\n\n'
    assert json.loads(SseDecoder().feed(sent)[0].data) == {"text": "x\ud83d"}
