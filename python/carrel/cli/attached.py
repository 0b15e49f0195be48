"""This terminal and one behind a WebSocket, held together: keys and the size go there, what is shown comes here.

While it lasts, this terminal hands every key on as it is, but for the one that leaves.
"""

import asyncio
import base64
import contextlib
import json
import os
import signal
import termios
import tty
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from carrel.cli.failures import Refused
from carrel.cli.rpc import result_of
from carrel.sandbox.protocol import Size
from carrel.terminal.recording import Recording

if TYPE_CHECKING:
    import aiohttp

INTERRUPT: Final = b"\x03"
_PIECE: Final = 32 << 10
_AGAIN_SECONDS: Final = 0.2
_QUIET: Final = frozenset({"terminal.ack", "terminal.resize"})


@dataclass(frozen=True, slots=True)
class Ended:
    """The terminal ended."""

    reason: str
    exit_code: int | None
    signal: int | None


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection ended, and the terminal goes on."""

    why: str


class Keyboard:
    """The terminal at the descriptor ``fd``."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @property
    def size(self) -> Size:
        """Its size; 80 by 24 where it has none, as one has that nobody has told how large it is."""
        found = os.get_terminal_size(self.fd)
        return Size(max(found.columns or 80, 2), found.lines or 24)

    @contextlib.contextmanager
    def raw(self) -> Iterator[None]:
        """Hand on every key as it is, for as long as the block lasts."""
        before = termios.tcgetattr(self.fd)
        # What was typed meanwhile is kept.
        tty.setraw(self.fd, termios.TCSADRAIN)
        try:
            yield
        finally:
            termios.tcsetattr(self.fd, termios.TCSADRAIN, before)


class Attached:
    """One terminal, shown here. ``begin`` it, then ``run`` it to its end."""

    def __init__(
        self,
        socket: "aiohttp.ClientWebSocketResponse",
        keyboard: Keyboard,
        *,
        detach: bytes,
        recording: Recording | None = None,
        out: int = 1,
    ) -> None:
        self._socket = socket
        self._keyboard = keyboard
        self._detach = detach
        self._recording = recording
        self._out = out
        self._id = ""
        self._next = 0
        self._typed = bytearray()
        self._sent: bytes | None = None
        self._writing = 0
        self._left = False
        self._tasks: set[asyncio.Future[Any]] = set()

    async def begin(self, attach: str | None, given: dict[str, Any]) -> str:
        """Open a new terminal, or go to the one that is named; its id. Raises Refused."""
        size = self._keyboard.size
        shape = {"cols": size.columns, "rows": size.rows}
        if attach is None:
            made = await self._asked("terminal.spawn", {**given, **shape, "attach": False})
            attach = str(made["terminalId"])
        self._id = attach
        await self._asked("terminal.attach", {"terminalId": attach, "encoding": "base64", **shape})
        return attach

    async def run(self) -> Ended | Lost | None:
        """Until it ends, is left (None), or the connection is lost."""
        loop = asyncio.get_running_loop()
        with self._keyboard.raw():
            loop.add_reader(self._keyboard.fd, self._keys)
            loop.add_signal_handler(signal.SIGWINCH, self._resized)
            try:
                return await self._heard()
            finally:
                loop.remove_reader(self._keyboard.fd)
                loop.remove_signal_handler(signal.SIGWINCH)
                for task in self._tasks:
                    task.cancel()

    async def _heard(self) -> Ended | Lost | None:
        import aiohttp  # noqa: PLC0415 - imported already, by who opened the socket

        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            ended = self._take(json.loads(message.data))
            if ended is not None:
                return ended
        if self._left:
            return None
        reason = {1008: "the key it was opened with ended", 1001: "the gateway stops"}
        return Lost(reason.get(self._socket.close_code or 0, "the gateway does not answer"))

    def _take(self, frame: dict[str, Any]) -> Ended | None:
        params = frame.get("params", {})
        match frame.get("method"):
            case "terminal.output" if params["terminalId"] == self._id:
                self._show(base64.b64decode(params["data"]))
                self._tell("terminal.ack", {"terminalId": self._id, "at": params["next"]})
            case "terminal.exit" if params["terminalId"] == self._id:
                return Ended(params["reason"], params["exitCode"], params["signal"])
            case "terminal.detached":
                self._tell("terminal.attach", {"terminalId": self._id, "encoding": "base64"})
            case None if frame.get("id") == self._writing:
                self._written(refused="error" in frame)
        return None

    def _show(self, data: bytes) -> None:
        if self._recording is not None:
            self._recording.output(data)
        while data:
            data = data[os.write(self._out, data) :]

    # --- keys ---

    def _keys(self) -> None:
        try:
            data = os.read(self._keyboard.fd, _PIECE)
        except OSError:
            data = b""
        before, left, _ = data.partition(self._detach)
        if INTERRUPT in before:
            # What was typed before it, and not read yet, is not wanted any more.
            self._typed.clear()
        self._typed += before
        self._type()
        if left or not data:
            self._left = True
            self._later(self._socket.close)

    def _type(self) -> None:
        """Send what was typed, one piece after the other: what waits there is bounded."""
        if self._sent is None and self._typed:
            self._sent = bytes(self._typed[:_PIECE])
            del self._typed[:_PIECE]
            data = base64.b64encode(self._sent).decode()
            self._writing = self._tell("terminal.write", {"terminalId": self._id, "data": data, "encoding": "base64"})

    def _written(self, *, refused: bool) -> None:
        if refused and self._sent is not None:
            # Nobody reads there for now.
            self._typed[:0] = self._sent
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._type)
        self._sent = None
        if not refused:
            self._type()

    def _resized(self) -> None:
        size = self._keyboard.size
        if self._recording is not None:
            self._recording.resized(size)
        self._tell("terminal.resize", {"terminalId": self._id, "cols": size.columns, "rows": size.rows})

    # --- calls ---

    def _tell(self, method: str, params: dict[str, Any]) -> int:
        self._next += 1
        call: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if method not in _QUIET:
            call["id"] = self._next
        text = json.dumps(call)
        self._later(lambda: self._socket.send_str(text))
        return self._next

    def _later(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Do ``work`` soon; it is begun by its task, so that one that is cancelled before leaves nothing behind."""
        task = asyncio.ensure_future(_unless_closed(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _asked(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a call, while nothing else is under way."""
        self._next += 1
        wanted = self._next
        await self._socket.send_str(json.dumps({"jsonrpc": "2.0", "id": wanted, "method": method, "params": params}))
        while True:
            message = await self._socket.receive()
            if not isinstance(message.data, str):
                raise Refused("The connection to the gateway was lost.", code="connection_lost")
            frame = json.loads(message.data)
            if frame.get("id") == wanted:
                return result_of(frame)


async def _unless_closed(work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    with contextlib.suppress(ConnectionError):
        await work()
