"""Which web pages may speak to this gateway: pure.

A page is of the gateway's own where its origin is what the request's Host says, over https, or over http on the machine
itself. The operator can name others.
"""

import re
from collections.abc import Collection
from ipaddress import ip_address
from typing import Final

_ORIGIN: Final = re.compile(r"(https?)://(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::([0-9]{1,5}))?")


def is_own(origins: list[str], hosts: list[str], named: Collection[str]) -> bool:
    """Whether a request with these values of Origin and Host, one of each, comes from a page that may ask.

    ``named`` are the operator's. A request without an origin, and one of `null`, comes from none.
    """
    if len(origins) != 1 or len(hosts) != 1:
        return False
    origin, host = origins[0].lower(), hosts[0].lower()
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return False
    if origin in named:
        return True
    scheme, name, _ = match.groups()
    return origin == f"{scheme}://{host}" and (scheme == "https" or _is_loopback(name))


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
