"""Which pages are the gateway's own."""

import pytest

from carrel.http.origins import is_own

OWN = [
    ("https://carrel.example", "carrel.example"),
    ("https://carrel.example:8443", "carrel.example:8443"),
    ("HTTPS://Carrel.Example", "carrel.example"),
    ("http://127.0.0.1:18789", "127.0.0.1:18789"),
    ("http://localhost:18789", "localhost:18789"),
    ("http://a.localhost:18789", "a.localhost:18789"),
    ("http://[::1]:18789", "[::1]:18789"),
    ("http://pages.example:1", "carrel.example"),
]
OTHERS = [
    ("null", "carrel.example"),
    ("", "carrel.example"),
    ("https://evil.example", "carrel.example"),
    ("https://sibling.carrel.example", "carrel.example"),
    ("https://carrel.example.evil.example", "carrel.example"),
    ("https://carrel.example:8443", "carrel.example"),
    ("http://carrel.example", "carrel.example"),
    ("http://192.168.1.5:18789", "192.168.1.5:18789"),
    ("http://127.0.0.1:18790", "127.0.0.1:18789"),
    ("http://localhost.evil.example", "localhost.evil.example"),
    ("https://user@carrel.example", "carrel.example"),
    ("https://carrel.example/", "carrel.example"),
    ("https://carrel.example#x", "carrel.example"),
    ("file://", "carrel.example"),
    ("chrome-extension://abc", "abc"),
    ("https://carrel.example https://carrel.example", "carrel.example"),
]


@pytest.mark.parametrize(("origin", "host"), OWN)
def test_S6_01_its_own(origin: str, host: str) -> None:
    assert is_own([origin], [host], ("http://pages.example:1",))


@pytest.mark.parametrize(("origin", "host"), OTHERS)
def test_S6_01_others(origin: str, host: str) -> None:
    assert not is_own([origin], [host], ("http://pages.example:1",))


def test_S6_01_none_and_several() -> None:
    own = "https://carrel.example"
    assert not is_own([], ["carrel.example"], (own,))
    assert not is_own([own, own], ["carrel.example"], (own,))
    assert not is_own([own], ["carrel.example", "carrel.example"], (own,))
