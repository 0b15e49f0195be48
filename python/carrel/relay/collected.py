"""A caller inside the gateway: the relay's answer to it is kept, or told as it comes."""

from collections.abc import Callable
from typing import Final

from carrel.relay.answer import CallerGone

MOST_BYTES: Final = 64 << 20


class Collected:
    """See `answer.Caller`. It says that it knows no chunks, so the body comes as it is.

    ``told`` takes the pieces of the body instead, where it is given; it may raise CallerGone.
    """

    modern = False
    paused = False

    def __init__(self, told: Callable[[bytes], None] | None = None) -> None:
        self.keeps = False
        self._told = told
        self._data = bytearray()
        self._headed = False
        self._size = 0

    def lines(self) -> str:
        return ""

    def put(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MOST_BYTES:
            raise CallerGone
        self._data += data
        if not self._headed and b"\r\n\r\n" in self._data:
            self._headed = True
            del self._data[: self._data.index(b"\r\n\r\n") + 4]
        if self._headed and self._told is not None:
            piece = bytes(self._data)
            self._data.clear()
            self._told(piece)

    async def drained(self) -> None:
        return

    def abort(self) -> None:
        self._data.clear()

    @property
    def body(self) -> bytes:
        """The body so far, where nobody was told it."""
        return bytes(self._data) if self._headed else b""
