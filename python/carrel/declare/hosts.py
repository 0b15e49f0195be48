"""Names of hosts as people and programs write them, made one form before anything is judged by them."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from carrel.errors import InvalidRequest

Address = IPv4Address | IPv6Address
MAX_NAME: Final = 253
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f%/\\@?#<>^|{}`\"'\[\]]")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


class BadHost(InvalidRequest):
    """What was given names no host, or only in a form that programs read in different ways."""

    code = "bad_host"


@dataclass(frozen=True, slots=True)
class Host:
    """A host in its one form: a name in lower-case ASCII without a trailing dot, or an address."""

    name: str
    address: Address | None = None

    def __str__(self) -> str:
        return self.name


def canonical(text: str) -> Host:
    """The host that ``text`` names; raises BadHost.

    Case, one trailing dot, international names, and every form of an IPv4 address that some resolver takes (`127.1`,
    `0x7f.1`, decimal, octal, mapped into IPv6) come to one form.
    """
    if text.startswith("[") and text.endswith("]"):
        return _version6(text[1:-1], text)
    if ":" in text:
        return _version6(text, text)
    if not text or len(text) > 4 * MAX_NAME or _FORBIDDEN.search(text):
        raise BadHost(f"{_shown(text)} is no host's name.")
    name = _ascii(text).removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _version4(labels, text)
    if len(name) > MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadHost(f"{_shown(text)} is no host's name: each part is 1 to 63 of a-z, 0-9, `-` and `_`.")
    return Host(name)


def of_address(address: Address) -> Host:
    """The host at ``address``; one that is mapped into IPv6 is the IPv4 address that it is."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Host(str(address), address)


def _ascii(text: str) -> str:
    lowered = text.lower()
    if lowered.isascii() and "xn--" not in lowered:
        return lowered
    import idna  # noqa: PLC0415 - a tenth of a second and its tables, for what is rare

    try:
        # An encoded name must be what encoding its own meaning gives, or it is a name that nobody could have meant.
        decoded = idna.decode(lowered.removesuffix("."), uts46=True)
        return idna.encode(decoded, uts46=True, std3_rules=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise BadHost(f"{_shown(text)} is no host's name ({error}).") from error


def _version4(labels: list[str], text: str) -> Host:
    """As `inet_aton` and the URL standard read it: up to four numbers, the last of which fills what is left."""
    if len(labels) > 4:
        raise BadHost(f"{_shown(text)} is no IPv4 address.")
    try:
        numbers = [_number(label) for label in labels]
    except ValueError:
        raise BadHost(f"{_shown(text)} is no IPv4 address.") from None
    *first, last = numbers
    if any(number > 255 for number in first) or last >= 256 ** (5 - len(numbers)):
        raise BadHost(f"{_shown(text)} is no IPv4 address.")
    value = last
    for place, number in enumerate(first):
        value += number << (8 * (3 - place))
    return of_address(IPv4Address(value))


def _number(label: str) -> int:
    if len(label) > 16:
        raise ValueError(label)
    if label[:2] in ("0x", "0X"):
        return int(label[2:] or "0", 16)
    if label.startswith("0") and len(label) > 1:
        return int(label, 8)
    return int(label, 10) if label.isascii() and label.isdigit() else _never(label)


def _never(label: str) -> int:
    raise ValueError(label)


def _version6(text: str, given: str) -> Host:
    if "%" in text or len(text) > 64:
        raise BadHost(f"{_shown(given)} is no IPv6 address without a zone.")
    try:
        return of_address(IPv6Address(text))
    except ValueError:
        raise BadHost(f"{_shown(given)} is no host's name and no IPv6 address.") from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")
