"""Which Host headers this gateway answers for: what stops a web page from reaching it by a name of its own."""

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from carrel.errors import InvalidRequest
from carrel.http.errors import Misdirected

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")


_REMEMBERED: Final = 64
"""How many values that were found fine are known by sight."""


class Hosts:
    """Loopback names, addresses written as numbers (which no DNS answer can forge) and the configured names."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._fine: set[str] = set()
        self._names = frozenset(name.lower().rstrip(".") for name in names) | {"localhost"}

    def check(self, headers: list[str]) -> None:
        """Judge the values of Host: exactly one, well-formed (InvalidRequest), of this gateway (Misdirected)."""
        if len(headers) == 1 and headers[0] in self._fine:
            return
        if len(headers) != 1:
            raise InvalidRequest("A request has exactly one Host header.")
        match = _HOST.fullmatch(headers[0])
        if match is None:
            raise InvalidRequest("The Host header is not a host name.")
        name = match.group(1).lower().rstrip(".")
        if name in self._names or name.endswith(".localhost") or _is_address(name):
            if len(self._fine) < _REMEMBERED:
                self._fine.add(headers[0])
            return
        raise Misdirected("This gateway does not answer for that host name; the operator can allow it.")


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
