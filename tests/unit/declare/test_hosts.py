"""One form for every way to write a host."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.declare.hosts import BadHost, canonical


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("example.com", "example.com"), ("EXAMPLE.com.", "example.com"), ("a_b.example.com", "a_b.example.com"),
        ("bücher.example", "xn--bcher-kva.example"), ("BÜCHER.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"), ("\uff45xample.com", "example.com"),
        ("example。com", "example.com"), ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"), ("127.1", "127.0.0.1"), ("0x7f.1", "127.0.0.1"), ("2130706433", "127.0.0.1"),
        ("0177.0.0.1", "127.0.0.1"), ("0x7f000001", "127.0.0.1"), ("127.0.0.1.", "127.0.0.1"), ("1", "0.0.0.1"),
        ("\uff11\uff12\uff17.0.0.1", "127.0.0.1"), ("127.0.0x1", "127.0.0.1"),
        ("[::1]", "::1"), ("::1", "::1"), ("[::ffff:127.0.0.1]", "127.0.0.1"), ("::ffff:7f00:1", "127.0.0.1"),
        ("[2606:4700::6810:84E5]", "2606:4700::6810:84e5"),
    ],
)  # fmt: skip
def test_S4_01_every_form_comes_to_one(text: str, name: str) -> None:
    host = canonical(text)
    assert host.name == name
    assert canonical(host.name) == host


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "..", "a..b", " example.com", "example.com ", "exam ple.com", "a\0b", "a\nb", "a\rb", "a%00b", "a%2eb",
        "user@example.com", "example.com/", "example.com\\x", "a?b", "a#b", "[::1%eth0]", "fe80::1%1", "[::1",
        "::1]", "[example.com]", "1.2.3.4.5", "256.1.1.1", "1.2.3.256", "09.1.1.1", "4294967296", "1.2.3.4x.5",
        "-a.com", "a-.com", "x" * 64 + ".com", "xn--a.com", "xn--\u0101.com", "xn--0.com", "a\u202eb.com", "a\u2024b/c",
        "1" * 20, "::ffff:127.0.0.1:80", "1:2", "x" * 5000,
    ],
)  # fmt: skip
def test_S4_01_what_is_read_in_two_ways_names_nothing(text: str) -> None:
    with pytest.raises(BadHost):
        canonical(text)


@given(st.text(max_size=40))
def test_S4_01_whatever_is_given_is_refused_or_comes_to_a_form_that_stays(text: str) -> None:
    try:
        host = canonical(text)
    except BadHost:
        return
    assert canonical(host.name) == host
    assert host.name.isascii()
    assert host.name == host.name.lower()
    assert not set(host.name) & set("\0\r\n\t %/@\\?#[]")
