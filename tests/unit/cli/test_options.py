from pathlib import Path

import pytest

from carrel.cli.failures import WrongUsage
from carrel.cli.options import HERE, Target, default_state_dir, parse_listen


def test_the_state_directory_follows_the_environment() -> None:
    assert default_state_dir({"XDG_STATE_HOME": "/var/lib", "HOME": "/home/a"}) == Path("/var/lib/carrel")
    assert default_state_dir({"XDG_STATE_HOME": "relative", "HOME": "/home/a"}) == Path("/home/a/.local/state/carrel")
    assert default_state_dir({"HOME": "/home/a"}) == Path("/home/a/.local/state/carrel")
    assert default_state_dir({}) == Path.home() / ".local" / "state" / "carrel"


def test_a_named_state_directory_comes_first() -> None:
    assert Target(state_dir=Path("/x")).state == Path("/x")
    assert HERE.state.name == "carrel"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:18789", ("127.0.0.1", 18789)),
        ("[::1]:80", ("::1", 80)),
        ("10.0.0.1:0", ("10.0.0.1", 0)),
        (":9000", ("127.0.0.1", 9000)),
        ("9000", ("127.0.0.1", 9000)),
        ("gateway.lan:65535", ("gateway.lan", 65535)),
    ],
)
def test_where_to_listen(text: str, place: tuple[str, int]) -> None:
    assert parse_listen(text) == place


@pytest.mark.parametrize("text", ["", "host", "host:", "host:http", "host:65536", "::1:80", "[h]:1", "h:-1", "h:٣"])
def test_where_nothing_can_listen(text: str) -> None:
    with pytest.raises(WrongUsage, match="--listen takes"):
        parse_listen(text)
