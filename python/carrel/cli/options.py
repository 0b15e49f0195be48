"""What the command line is told: where to listen, and how to reach a gateway."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Group, Parameter

from carrel.cli.failures import WrongUsage

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 18789
ENVIRONMENT: Final = ("CARREL_STATE_DIR", "CARREL_URL")
"""What options are taken from where the words do not say them."""
EVERYWHERE: Final = Group("Every command", sort_key=1)
StateDir = Annotated[
    Path | None,
    Parameter(
        group=EVERYWHERE,
        env_var="CARREL_STATE_DIR",
        help="The gateway's state directory, whose control socket is used. "
        "By default `${XDG_STATE_HOME:-~/.local/state}/carrel`.",
    ),
]
Json = Annotated[
    bool, Parameter(name="--json", group=EVERYWHERE, negative=(), show_default=False, help="Answer in JSON.")
]


def no_option(_: object, value: object) -> None:
    """Raise ValueError for a word with a hyphen before it, but for `-` alone, which is a standard stream."""
    word = str(value)
    if word.startswith("-") and word != "-":
        raise ValueError(f"There is no option {word}: a file of that name is ./{word}")


OR_STANDARD: Final = Parameter(allow_leading_hyphen=True, validator=no_option)
"""What `-` may be said for."""


@Parameter(name="*", group=EVERYWHERE)
@dataclass(frozen=True)
class Target:
    """Which gateway is meant, and in which form its answer is shown: every command that asks one takes these."""

    state_dir: StateDir = None
    url: Annotated[
        str | None,
        Parameter(
            env_var="CARREL_URL",
            help="Reach the gateway here instead, with the admin key in `CARREL_ADMIN_KEY` or `--admin-key-file`.",
        ),
    ] = None
    admin_key_file: Annotated[
        Path | None, Parameter(help="A file that holds the admin key for `--url`. A key is never an argument.")
    ] = None
    json: Json = False

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.state_dir if self.state_dir is not None else default_state_dir(os.environ)


HERE: Final = Target()
"""The local gateway."""


def default_state_dir(env: Mapping[str, str]) -> Path:
    """Where state is kept unless it is said otherwise; a relative XDG_STATE_HOME does not count, as its rules say."""
    home = env.get("XDG_STATE_HOME", "")
    base = Path(home) if home.startswith("/") else Path(env.get("HOME") or Path.home()) / ".local" / "state"
    return base / "carrel"


def parse_listen(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[V6]:PORT``, ``:PORT`` or ``PORT``; raises WrongUsage."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port[:6]) <= 65535):
        raise WrongUsage(f"--listen takes HOST:PORT, as {DEFAULT_HOST}:{DEFAULT_PORT}, not {text!r}.")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed != (":" in host):
        raise WrongUsage(f"--listen takes an IPv6 address in brackets, as [::1]:{DEFAULT_PORT}, not {text!r}.")
    return (host[1:-1] if bracketed else host) or DEFAULT_HOST, int(port)
