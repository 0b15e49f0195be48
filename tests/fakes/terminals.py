"""What a test sees and types at the host end of a terminal."""

import asyncio
import os
from types import TracebackType
from typing import Self

from tests.fakes.patience import eventually


class Screen:
    """Reads ``master`` for as long as the block lasts, and keeps all of it."""

    def __init__(self, master: int) -> None:
        self.text = b""
        self._master = master

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._master)

    def types(self, text: str) -> None:
        os.write(self._master, text.encode())

    async def shows(self, text: str) -> None:
        await eventually(lambda: text.encode() in self.text)

    def _read(self) -> None:
        try:
            self.text += os.read(self._master, 1 << 16)
        except OSError:
            # So it says that nobody holds the other end any more.
            asyncio.get_running_loop().remove_reader(self._master)
