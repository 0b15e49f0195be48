"""The name in a ClientHello, however it is cut; what is no TLS is told from what is not whole yet."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.egress.hello import MOST_BYTES, Hello, NotTls, hello_in


def client_hello(name: str | None) -> bytes:
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def test_the_name_is_found_once_all_of_it_is_there() -> None:
    data = client_hello("api.example.com")
    for end in range(len(data)):
        assert hello_in(data[:end]) is None
    found = hello_in(data + b"more")
    assert found is not None
    assert found.server_name == "api.example.com"


def test_one_that_names_nobody() -> None:
    found = hello_in(client_hello(None))
    assert found is not None
    assert found.server_name is None


def sealed_hello(name: str) -> bytes:
    """A ClientHello with an encrypted one in it, or what looks like that."""
    data = bytearray(client_hello(name))
    sealed = b"\xfe\x0d" + (40).to_bytes(2, "big") + b"\x00" + b"evil.example.com".ljust(39, b"\x00")
    at = 9 + 2 + 32
    at += 1 + data[at]
    at += 2 + int.from_bytes(data[at : at + 2], "big")
    at += 1 + data[at]
    for place, width in ((at, 2), (6, 3), (3, 2)):
        size = int.from_bytes(data[place : place + width], "big") + len(sealed)
        data[place : place + width] = size.to_bytes(width, "big")
    data[at + 2 : at + 2] = sealed
    return bytes(data)


def test_S4_04_a_hello_with_another_inside_is_told_from_one_without() -> None:
    found, plain = hello_in(sealed_hello("api.example.com")), hello_in(client_hello("api.example.com"))
    assert found == Hello("api.example.com", sealed=True)
    assert plain == Hello("api.example.com", sealed=False)


def test_one_in_several_records() -> None:
    data = client_hello("api.example.com")
    body = data[5:]
    records = b"".join(
        b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in (body[:3], body[3:50], body[50:])
    )
    found = hello_in(records)
    assert found is not None
    assert found.server_name == "api.example.com"


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n", b"\x16\x02\x00", b"\x17\x03\x03\x00\x01a", b"SSH-2.0", b"\x16\x03\x01\x00\x00",
     b"\x16\x03\x01\xff\xff", b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01x"],
)  # fmt: skip
def test_what_is_no_tls(data: bytes) -> None:
    with pytest.raises(NotTls):
        hello_in(data)


def test_one_that_does_not_end_is_given_up() -> None:
    endless = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"x" * MOST_BYTES
    with pytest.raises(NotTls):
        hello_in(endless)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_whatever_is_changed_in_one_it_is_read_or_refused(noise: bytes, at: int) -> None:
    data = bytearray(client_hello("api.example.com"))
    data[at : at + len(noise)] = noise
    try:
        hello_in(bytes(data))
    except NotTls:
        return
