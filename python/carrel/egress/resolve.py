"""Names to addresses, once for each connection, and connections to nothing but the addresses that were judged."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from pathlib import Path
from typing import Final

from carrel.clock import Clock
from carrel.declare.hosts import Address, Host, of_address
from carrel.errors import CarrelError
from carrel.policy.egress.addresses import Network, address_refused

RESOLVE_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 10.0
OWN_SECONDS: Final = 30.0
MOST_ADDRESSES: Final = 8

Look = Callable[[str], Awaitable[Sequence[str]]]
"""All addresses of a name; raises OSError where it has none."""


class AddressRefused(CarrelError):
    """The name leads to addresses that nothing in a sandbox is connected to."""

    code = "address_refused"


class Unreachable(CarrelError):
    """The name does not resolve, or nobody answers there."""

    code = "unreachable"
    retryable = True


class Dialler:
    """The one guard of every connection that a tenant's wish makes. ``look`` is the system's resolver by default."""

    def __init__(self, *, clock: Clock, look: Look | None = None) -> None:
        self._clock = clock
        self._look = look or _system
        self._own: frozenset[Address] = frozenset()
        self._own_until = 0.0

    async def vetted(self, host: Host, *, permitted: Collection[Network] = ()) -> tuple[Address, ...]:
        """The addresses of ``host`` that may be connected to: asked for once, and not to be asked for again.

        Raises AddressRefused where none of them may be, Unreachable where there are none.
        """
        if host.address is not None:
            found: list[Address] = [host.address]
        else:
            try:
                async with asyncio.timeout(RESOLVE_SECONDS):
                    texts = await self._look(host.name)
            except TimeoutError:
                raise Unreachable(f"{host} was not resolved within {RESOLVE_SECONDS:g} s.") from None
            except OSError as error:
                raise Unreachable(f"{host} does not resolve: {error.strerror or error}.") from error
            found = [of_address(_address(text)).address or _address(text) for text in texts][:MOST_ADDRESSES]
        own = self._own_addresses()
        reasons = {address: address_refused(address, own=own, permitted=permitted) for address in found}
        good = tuple(address for address, reason in reasons.items() if reason is None)
        if not good:
            why = next((reason for reason in reasons.values() if reason is not None), "it has no address")
            raise AddressRefused(f"{host} is not connected to: {why}.")
        return good

    async def connected(self, host: Host, port: int, *, permitted: Collection[Network] = ()) -> socket.socket:
        """A connection to ``host``; raises AddressRefused, Unreachable."""
        loop = asyncio.get_running_loop()
        problem: Exception | None = None
        for address in await self.vetted(host, permitted=permitted):
            family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
            made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await loop.sock_connect(made, (str(address), port))
            except (OSError, TimeoutError) as error:
                made.close()
                problem = error
            except BaseException:
                made.close()
                raise
            else:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return made
        reason = getattr(problem, "strerror", None) or "no answer in time"
        raise Unreachable(f"{host} port {port} cannot be connected to: {reason}.")

    def _own_addresses(self) -> frozenset[Address]:
        now = self._clock.monotonic()
        if now >= self._own_until:
            self._own, self._own_until = own_addresses(), now + OWN_SECONDS
        return self._own


async def _system(name: str) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@lru_cache(maxsize=1024)
def _address(text: str) -> Address:
    plain = text.partition("%")[0]
    return IPv6Address(plain) if ":" in plain else IPv4Address(plain)


def own_addresses() -> frozenset[Address]:
    """The addresses of this machine's interfaces, as the kernel's tables have them."""
    found: set[Address] = set()
    try:
        lines = Path("/proc/self/net/fib_trie").read_text(encoding="ascii").splitlines()
        for line, kind in pairwise(lines):
            if kind.strip().startswith("/32 host LOCAL"):
                found.add(IPv4Address(line.split()[-1]))
        for line in Path("/proc/self/net/if_inet6").read_text(encoding="ascii").splitlines():
            found.add(IPv6Address(int(line.split()[0], 16)))
    except (OSError, ValueError):
        # Without these tables nothing is known to be the machine's own; what is private is refused all the same.
        return frozenset(found)
    return frozenset(found)
