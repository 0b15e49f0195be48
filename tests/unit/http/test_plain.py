"""What is plain, and that nothing else is."""

import pytest

from carrel.http.plain import KEPT_HEAD, MAX_HEAD, Heads, PlainHead, plain_head

REQUEST = b"POST /v1/x HTTP/1.1\r\nHost: localhost:1\r\nAuthorization: Bearer abc\r\nContent-Length: 3\r\n\r\nabc"


def test_a_plain_request() -> None:
    assert plain_head(REQUEST) == PlainHead("POST", "/v1/x", "localhost:1", "abc", "", len(REQUEST) - 3, 3)
    head = plain_head(b"GET / HTTP/1.1\r\nHost: h\r\nX-Request-Id: r-1\r\nConnection: Keep-Alive\r\n\r\nmore")
    assert head is not None
    assert (head.method, head.credential, head.request_id, head.length) == ("GET", "", "r-1", 0)
    assert head.total == head.size


def test_what_follows_is_not_looked_at() -> None:
    assert plain_head(REQUEST + b"\0\n\r") == plain_head(REQUEST)


@pytest.mark.parametrize("at", range(0, len(REQUEST) - 3, 7))
def test_a_head_that_is_not_all_here(at: int) -> None:
    assert plain_head(REQUEST[:at]) is None


@pytest.mark.parametrize(
    "line",
    [
        b"Transfer-Encoding: chunked", b"transfer-encoding: identity", b"Content-Encoding: gzip",
        b"Expect: 100-continue",
        b"Upgrade: websocket", b"Connection: close", b"Connection: Upgrade", b"Connection: keep-alive, upgrade",
        b"Content-Length: 3", b"Host: other", b"authorization: Bearer other", b"TE: trailers", b"X-A:b", b"X-A:  b",
        b"X-A: b ", b"X-A: b\tc", b" X-A: b", b"X-A : b", b"X_A: b", b": b", b"X-A: ", b"X-A", b"X-A: b\xe9",
        b"X-A: b\0",
        b"X-A: b\rc", b"X-A: b\nc: d", b"X-A: b\r\n c", b"\xef\xbb\xbfX: b", b"",
    ],
)  # fmt: skip
def test_any_other_line_is_not_plain(line: bytes) -> None:
    odd = REQUEST.replace(b"Host:", line + b"\r\nHost:", 1)
    head = plain_head(odd)
    # An empty line ends the head early, and then it has no host.
    assert head is None


@pytest.mark.parametrize("length", [b"+3", b"-3", b"03", b"0x3", b"3,3", b"3_0", b"3 3", b"1" * 16, b"3.0"])
def test_a_length_that_can_be_read_in_two_ways(length: bytes) -> None:
    assert plain_head(REQUEST.replace(b"Length: 3", b"Length: " + length)) is None


@pytest.mark.parametrize(
    "first",
    [
        b"POST /v1/x HTTP/1.0", b"POST /v1/x HTTP/2.0", b"POST /v1/x", b"POST  /v1/x HTTP/1.1", b"post /v1/x HTTP/1.1",
        b"CONNECT h:1 HTTP/1.1", b"OPTIONS * HTTP/1.1", b"POST http://h/v1/x HTTP/1.1", b"POST /v1/ x HTTP/1.1",
        b"POST /v1/\xe9 HTTP/1.1", b"POST /v1/x HTTP/1.1 ", b"\r\nPOST /v1/x HTTP/1.1", b"POST /v1/x\tHTTP/1.1",
    ],
)  # fmt: skip
def test_any_other_first_line_is_not_plain(first: bytes) -> None:
    assert plain_head(REQUEST.replace(b"POST /v1/x HTTP/1.1", first, 1)) is None


def test_bare_line_feeds_and_long_heads() -> None:
    assert plain_head(REQUEST.replace(b"\r\n", b"\n")) is None
    assert plain_head(REQUEST.replace(b"abc\r\n", b"a" * MAX_HEAD + b"\r\n", 1)) is None
    assert plain_head(REQUEST.replace(b"Host", b"X-A: b\r\nHost", 1)) is not None


@pytest.mark.parametrize(
    "then",
    [
        REQUEST, REQUEST.replace(b"Length: 3", b"Length: 12345"), REQUEST.replace(b"Length: 3", b"Length: 0"),
        REQUEST.replace(b"Length: 3", b"Length: 03"), REQUEST.replace(b"Length: 3", b"Length: "),
        REQUEST.replace(b"Length: 3", b"Length: \xb2"), REQUEST.replace(b"Length: 3", b"Length: 3 "),
        REQUEST.replace(b"Length: 3", b"Length: " + b"1" * 15), REQUEST.replace(b"Length: 3", b"Length: " + b"1" * 16),
        REQUEST.replace(b"Length: 3\r\n", b"Length: 3\r\nContent-Length: 4\r\n"),
        REQUEST.replace(b"abc\r\n", b"abd\r\n"),
        REQUEST.replace(b"Length: 3\r\n", b"Length: 3\r\nTE: trailers\r\n"), REQUEST[:-5], REQUEST[:-9], REQUEST[:40],
        REQUEST.replace(b"Length: 3\r\n", b"Length: 3\n"), REQUEST.replace(b"\r\n\r\n", b"\r\n \r\n"),
        REQUEST.replace(b"Host: localhost:1", b"Host: other"), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", [REQUEST, REQUEST.replace(b"3\r\n\r\n", b"3\r\nX-Last: 3\r\n\r\n")])
def test_a_connection_reads_each_head_as_if_it_were_its_first(first: bytes, then: bytes) -> None:
    heads = Heads()
    assert heads.read(first) == plain_head(first)
    for _ in range(2):
        assert heads.read(then + b"more") == plain_head(then + b"more")
        assert heads.read(first) == plain_head(first)


@pytest.mark.parametrize("most", [KEPT_HEAD, MAX_HEAD])
def test_long_heads_are_read_alike_and_those_that_are_remembered_are_bounded(most: int) -> None:
    longest = REQUEST.replace(b"abc\r\n", b"a" * (most - len(REQUEST) + 6) + b"\r\n", 1)
    heads = Heads()
    read = heads.read(longest)
    assert read == plain_head(longest)
    assert read is not None
    assert read.size == most
    assert (heads.read(longest) is read) == (most == KEPT_HEAD)
    longer = longest.replace(b"Length: 3", b"Length: 33")
    assert heads.read(longer) == plain_head(longer)
