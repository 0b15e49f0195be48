"""Which Host headers are ours."""

import pytest

from carrel.errors import InvalidRequest
from carrel.http.errors import Misdirected
from carrel.http.hosts import Hosts

HOSTS = Hosts(["Gateway.example."])


@pytest.mark.parametrize(
    "value",
    ["localhost", "localhost:18789", "127.0.0.1:1", "[::1]:18789", "10.1.2.3", "x.localhost", "gateway.example:443",
     "GATEWAY.example", "localhost."],
)  # fmt: skip
def test_ours(value: str) -> None:
    HOSTS.check([value])


@pytest.mark.parametrize(
    "value", ["evil.example", "localhost.evil.example", "gateway.example.evil", "127.0.0.1.nip.io"]
)
def test_not_ours(value: str) -> None:
    with pytest.raises(Misdirected):
        HOSTS.check([value])


@pytest.mark.parametrize(
    "values", [[], ["localhost", "localhost"], [""], ["a b"], ["localhost/x"], ["u@localhost"], ["a\0b"]]
)
def test_malformed(values: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        HOSTS.check(values)
