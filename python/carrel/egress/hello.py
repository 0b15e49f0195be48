"""The first bytes of a TLS connection, read for the name that the client asks for."""

from dataclasses import dataclass
from typing import Final

MOST_BYTES: Final = 32 << 10
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ENCRYPTED_HELLO: Final = 0xFE0D


class NotTls(Exception):
    """These are not the first bytes of TLS."""


@dataclass(frozen=True, slots=True)
class Hello:
    """``server_name`` is as the client wrote it, None where it named none.

    ``sealed``: there is another hello in it (or what looks like one), encrypted, that may name another host.
    """

    server_name: str | None
    sealed: bool = False


def hello_in(data: bytes) -> Hello | None:
    """What the ClientHello at the start of ``data`` says, None where more of it is to come; raises NotTls."""
    message = bytearray()
    at = 0
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        if data[at : at + 1] not in (b"", bytes([_HANDSHAKE])) or data[at + 1 : at + 2] not in (b"", b"\x03"):
            raise NotTls
        if len(data) < at + 5:
            _may_grow(data)
            return None
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if not 0 < length <= (16 << 10) + 256:
            raise NotTls
        if len(data) < at + 5 + length:
            _may_grow(data)
            return None
        message += data[at + 5 : at + 5 + length]
        at += 5 + length
        if message[0] != _CLIENT_HELLO:
            raise NotTls
    try:
        return _told(memoryview(bytes(message))[4:])
    except (IndexError, ValueError) as error:
        raise NotTls from error


def _may_grow(data: bytes) -> None:
    if len(data) >= MOST_BYTES:
        raise NotTls


class _Reader:
    """Takes lengths and what they measure from the front; raises ValueError where there is less."""

    def __init__(self, data: memoryview) -> None:
        self.left = data

    def take(self, count: int) -> memoryview:
        if len(self.left) < count:
            raise ValueError(count)
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> memoryview:
        return self.take(self.number(width))


def _told(body: memoryview) -> Hello:
    hello = _Reader(body)
    hello.take(2 + 32)
    hello.vector(1)
    hello.vector(2)
    hello.vector(1)
    if not hello.left:
        return Hello(None)
    extensions = _Reader(hello.vector(2))
    found: str | None = None
    sealed = False
    while extensions.left:
        kind, content = extensions.number(2), extensions.vector(2)
        sealed = sealed or kind == _ENCRYPTED_HELLO
        if kind != _SERVER_NAME:
            continue
        if found is not None:
            raise ValueError("two names")
        names = _Reader(_Reader(content).vector(2))
        if names.number(1) != 0:
            raise ValueError("no host name")
        found = bytes(names.vector(2)).decode("ascii")
        if names.left:
            raise ValueError("two names")
    return Hello(found, sealed)
