"""A client of `/ws` for the tests."""

import asyncio
import itertools
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.fakes.edge import bearer

WAIT = 60.0


class Socket:
    """Frames sorted into answers by their id, and the rest in the order of coming."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.told: deque[dict[str, Any]] = deque()
        self._answers: dict[Any, Any] = {}
        self._ids = itertools.count(1)

    async def send(self, method: str, params: Any = None) -> int:
        """Send a call and give its id."""
        number = next(self._ids)
        await self.socket.send_json({"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}})
        return number

    async def call(self, method: str, params: Any = None) -> Any:
        """The result of a call, or its error."""
        return await self.answer(await self.send(method, params))

    async def answer(self, number: Any) -> Any:
        """The answer to the call ``number``."""
        while number not in self._answers:
            await self._take()
        answer = self._answers.pop(number)
        return answer.get("result", answer.get("error"))

    async def next(self, method: str | None = None) -> dict[str, Any]:
        """The next notification, or the next of that name: an event's own, or that of the method."""
        while True:
            for one in self.told:
                if method in (None, one["method"], one["params"].get("event")):
                    self.told.remove(one)
                    return one["params"]  # type: ignore[no-any-return] # JSON
            await self._take()

    async def closed(self) -> tuple[int | None, str]:
        """Wait for the other side to close; code and reason."""
        async with asyncio.timeout(WAIT):
            while True:
                message = await self.socket.receive()
                if message.type is aiohttp.WSMsgType.CLOSE:
                    return message.data, message.extra or ""
                if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSING):
                    return self.socket.close_code, ""

    async def _take(self) -> None:
        async with asyncio.timeout(WAIT):
            message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise AssertionError(f"the connection ended: {message.type.name} {message.data} {message.extra}")
        frame = json.loads(message.data)
        if isinstance(frame, dict) and "method" in frame:
            self.told.append(frame)
        elif isinstance(frame, list):
            self._answers["batch"] = {"result": frame}
        else:
            self._answers[frame["id"]] = frame


@asynccontextmanager
async def opened(url: str, token: str, query: str = "", **options: Any) -> AsyncIterator[Socket]:
    """A connection to the gateway at ``url`` with ``token``."""
    options.setdefault("autoclose", False)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/ws{query}", headers=bearer(token), max_msg_size=0, **options) as socket,
    ):
        yield Socket(socket)
