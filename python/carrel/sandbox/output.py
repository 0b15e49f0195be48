"""What a sandboxed command writes: kept up to a limit, counted beyond it, shown as it comes."""

import asyncio
import os
from collections.abc import Callable
from typing import Final

_PIECE: Final = 1 << 16
RELEASE_BYTES: Final = 4 << 20
"""What is read at most of a pipe that is released: more than one holds, for some are filled without an end."""
FLOOD: Final = 64 << 20
"""Bytes beyond what is kept after which a command is taken to write without end."""


class Output:
    """Standard output and error of one command, read from two pipes by the event loop.

    ``limit`` bytes of both together are kept. ``on_flood`` is called once where ``FLOOD`` more than that were written.
    """

    def __init__(
        self,
        limit: int,
        *,
        on_output: Callable[[bytes], None] | None = None,
        on_flood: Callable[[], None] | None = None,
    ) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self.dropped = 0
        self._left = limit
        self._count = 0
        self._on_output = on_output
        self._on_flood = on_flood
        self._open: dict[int, bytearray] = {}
        self._ended = asyncio.get_running_loop().create_future()

    def read_from(self, stdout: int, stderr: int) -> None:
        """Start reading the two descriptors, which are this object's from here on."""
        loop = asyncio.get_running_loop()
        for fd, into in ((stdout, self.stdout), (stderr, self.stderr)):
            os.set_blocking(fd, False)
            self._open[fd] = into
            loop.add_reader(fd, self._read, fd)

    async def wait(self, seconds: float) -> None:
        """Wait until both pipes have ended, at most so long: what is dead holds no pipe open."""
        await asyncio.wait([self._ended], timeout=seconds)

    def release(self) -> list[int]:
        """Read what is there by now and stop; descriptors that others still write to are the caller's from here on."""
        left = []
        for fd in list(self._open):
            until = self._count + RELEASE_BYTES
            while fd in self._open and self._count < until and self._read(fd):
                pass
            if fd in self._open:
                del self._open[fd]
                asyncio.get_running_loop().remove_reader(fd)
                left.append(fd)
        return left

    def close(self) -> None:
        """Stop reading and give the descriptors back."""
        for fd in list(self._open):
            self._stop(fd)

    def _read(self, fd: int) -> bool:
        """Take in one piece; False where there is none now, or none any more."""
        try:
            piece = os.read(fd, _PIECE)
        except BlockingIOError:
            return False
        if not piece:
            self._stop(fd)
            return False
        self._count += len(piece)
        kept = piece[: self._left]
        self._left -= len(kept)
        self._open[fd] += kept
        self.dropped += len(piece) - len(kept)
        if self.dropped > FLOOD and self._on_flood is not None:
            self._on_flood()
            self._on_flood = None
        if self._on_output is not None:
            self._on_output(piece)
        return True

    def _stop(self, fd: int) -> None:
        del self._open[fd]
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
        if not self._open and not self._ended.done():
            self._ended.set_result(None)
