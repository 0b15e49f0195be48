import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.relay.framing import MAX_HEAD, MAX_INTERIM, AnswerReader, ChunkReader, FramingError, parse_head

OK = b"HTTP/1.1 200 OK\r\n"


def read(data: bytes, size: int | None = None) -> tuple[AnswerReader, bytes]:
    reader, body = AnswerReader(), b""
    step = size or max(len(data), 1)
    for at in range(0, len(data), step):
        body += reader.feed(data[at : at + step])
    return reader, body


@pytest.mark.parametrize("size", [None, 1, 2, 3, 7])
@pytest.mark.parametrize(
    ("data", "body", "reusable"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", b"hello", True),
        (OK + b"Content-Length: 0\r\n\r\n", b"", True),
        (OK + b"content-length:5\r\nConnection: close\r\n\r\nhello", b"hello", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n", b"hello!", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\nx", b"x", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx", b"x", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 200\r\nContent-Length: 1, 1\r\n\r\nx", b"x", True),
        (OK + b"Content-Length: 1\r\n\r\nxHTTP/1.1 200 OK", b"x", False),
    ],
)
def test_answers(data: bytes, body: bytes, size: int | None, *, reusable: bool) -> None:
    reader, found = read(data, size)
    assert reader.complete
    assert found == body
    assert reader.reusable == reusable


def test_a_body_that_ends_with_the_connection() -> None:
    reader, body = read(OK + b"\r\nall of it")
    before = reader.complete
    reader.eof()
    assert (body, before, reader.complete, reader.reusable) == (b"all of it", False, True, False)


@pytest.mark.parametrize("data", [
    b"", b"HTTP/1.1 2", OK + b"Content-Length: 5\r\n\r\nhell", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
])  # fmt: skip
def test_a_connection_that_ends_too_early_is_an_error(data: bytes) -> None:
    reader, _ = read(data)
    with pytest.raises(FramingError):
        reader.eof()


@pytest.mark.parametrize("head", [
    b"HTTP/2 200 OK", b"HTTP/1.1 99 X", b"HTTP/1.1 2000 X", b"HTTP/1.1  200 OK", b"ICY 200 OK", b"",
    OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked", OK + b"Content-Length: 5\r\nContent-Length: 6",
    OK + b"Content-Length: +5", OK + b"Content-Length: 0x5", OK + b"Content-Length: ", OK + b"Content-Length: -1",
    OK + b"Content-Length: 99999999999999999999", OK + b"Transfer-Encoding: gzip, chunked",
    OK + b"Transfer-Encoding: identity", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", OK + b"A : b", OK + b" a: b",
    OK + b"A: b\r\n c", OK + b"A: b\nB: c", OK + b"A: b\rB: c", OK + b"A: b\0", OK + b"nocolon",
    OK + b"A: " + b"x" * MAX_HEAD,
])  # fmt: skip
def test_heads_that_could_be_read_in_two_ways(head: bytes) -> None:
    with pytest.raises(FramingError):
        read(head + b"\r\n\r\n")


def test_an_endless_head_and_an_upgrade() -> None:
    with pytest.raises(FramingError):
        read(OK + b"A: " + b"x" * (MAX_HEAD + 10))
    with pytest.raises(FramingError):
        read(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")


@pytest.mark.parametrize("lines", [
    b"x" * 65_000, b":" * 65_000, b"a: b\n" * 13_000, b"a:" + b" " * 65_000 + b"\0", b"a:" + b" " * 65_000 + b"\r",
    (b"a:" + b" " * 8_000 + b"\0\r\n") * 8, b"a:b\r\n" * 13_000 + b"x", b"a:b\r\n" * 2_000 + b"x" * 50_000,
])  # fmt: skip
def test_no_malformed_head_is_judged_for_long(lines: bytes) -> None:
    began = time.process_time()
    with pytest.raises(FramingError, match="header line"):
        parse_head(OK + lines)
    assert time.process_time() - began < 1, "a head that is searched, not judged from its start, takes seconds"


def test_a_name_that_is_there_thousands_of_times_is_joined_at_once() -> None:
    began = time.process_time()
    assert parse_head(OK + b"\r\n".join([b"A:b "] * 10_000)).headers == {"a": ", ".join(["b"] * 10_000)}
    assert time.process_time() - began < 1


@pytest.mark.parametrize("size", [None, 7])
def test_so_many_heads_may_come_before_the_answers_and_no_more(size: int | None) -> None:
    interim, answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", OK + b"Content-Length: 1\r\n\r\nx"
    reader, body = read(interim * MAX_INTERIM + answer, size)
    assert (reader.complete, reader.reusable, body) == (True, True, b"x")
    with pytest.raises(FramingError, match="too many heads"):
        read(interim * (MAX_INTERIM + 1) + answer, size)


@pytest.mark.parametrize("data", [
    b"g\r\n", b"-1\r\n", b"\r\n", b"5\r\nhelloXX", b"5 \r\nhello!\r\n", b"1" * 16 + b"\r\n", b"5\nhello\n",
    b"5;" + b"x" * 2000, b"0\r\n" + b"T: " + b"x" * 20_000 + b"\r\n",
])  # fmt: skip
def test_chunks_that_are_none(data: bytes) -> None:
    with pytest.raises(FramingError):
        ChunkReader().feed(data)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=10), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_chunks_in_pieces_of_any_size(chunks: list[bytes], steps: list[int]) -> None:
    data = b"".join(b"%X\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\nrest"
    reader, body, at, turn = ChunkReader(), b"", 0, 0
    while not reader.done:
        step = steps[turn % len(steps)]
        body += reader.feed(data[at : at + step])
        at, turn = at + step, turn + 1
    assert body == b"".join(chunks)
    assert b"rest".startswith(reader.rest)


def test_headers_are_told_by_lower_case_names() -> None:
    head = parse_head(OK + b"X-Request-ID:  abc \r\nx-a: 1\r\nX-A: 2")
    assert head.headers == {"x-request-id": "abc", "x-a": "1, 2"}
    assert head.status == 200
