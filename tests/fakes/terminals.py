"""What a test sees and types at the host end of a terminal, and what terminals need of other rooms."""

import asyncio
import os
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from carrel.sandbox.protocol import EgressGate
from carrel.tenancy.handle import Tenant
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


class NoGate:
    """Nothing is reachable through it."""

    env: Mapping[str, str] = {"HTTP_PROXY": "http://127.0.0.1:3128"}
    files: Mapping[str, bytes] = {}

    async def prepare(self) -> None:
        """It is ready."""

    def follow(self, other: EgressGate, /, *, alone: bool) -> None:
        """It is for everybody."""

    async def serve(self, listener: socket.socket) -> None:
        await asyncio.get_running_loop().create_future()


class NoWayOut:
    """Gives gates that lead nowhere; remembers for whom."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def gate(self, tenant: Tenant, **about: Any) -> NoGate:
        self.asked.append({"tenant": tenant.id, **about})
        return NoGate()
