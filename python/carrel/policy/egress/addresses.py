"""Addresses that nothing in a sandbox is connected to, whatever name led there."""

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from carrel.declare.hosts import Address

Network = IPv4Network | IPv6Network

_NOT_FOR_SANDBOXES: Final[tuple[tuple[str, str], ...]] = (
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a carrier, or a cloud's metadata"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "a cloud's metadata"),
    ("169.254.0.0/16", "link-local, or a cloud's metadata"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved, or a cloud's metadata"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "a relay"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("64:ff9b:1::/48", "translated to a local IPv4 network"),
    ("100::/64", "discarded"),
    ("2001::/32", "a tunnel"),
    ("2001:2::/48", "for benchmarks"),
    ("2001:10::/28", "no address"),
    ("2001:20::/28", "no address"),
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "no address"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
)
_NETWORKS: Final[tuple[tuple[Network, str], ...]] = tuple((ip_network(n), why) for n, why in _NOT_FOR_SANDBOXES)
_NAT64: Final = IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = IPv6Network("::/96")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


def address_refused(
    address: Address, *, own: Collection[Address] = (), permitted: Collection[Network] = ()
) -> str | None:
    """Why nothing is connected to ``address``, None where something may be.

    ``own`` are the machine's addresses. What lies in ``permitted`` is not refused: a rule of the operator's names it.
    An IPv4 address that is written into an IPv6 one is judged as what it is.
    """
    for inner in (address, *_embedded(address)):
        if any(inner.version == network.version and inner in network for network in permitted):
            continue
        if inner in own:
            return f"{inner} is this machine's own"
        for network, why in _NETWORKS:
            if inner.version == network.version and inner in network:
                return f"{inner} is {why}"
    return None


def _embedded(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that a packet to ``address`` may come out at."""
    if not isinstance(address, IPv6Address):
        return
    value = int(address)
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address in _NAT64 or (address in _COMPATIBLE and value > 1):
        yield IPv4Address(value & 0xFFFFFFFF)
    if (value >> 32) & 0xFFFFFFFF in _ISATAP:
        yield IPv4Address(value & 0xFFFFFFFF)
