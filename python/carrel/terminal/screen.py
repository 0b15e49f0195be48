"""One terminal: bytes between its pty and those who look, none of whom can make it or the gateway run away.

What the command writes is read only while everybody who looks keeps up: each viewer says how far it has come, and may
be a window behind. Then the kernel's own buffer fills, and the command waits. Where nobody looks it is read on, at a
bounded pace, into the ring that who comes later is shown. What is typed waits, within a bound, for the command to read.
"""

import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol

from carrel.errors import InvalidRequest, RateLimited
from carrel.sandbox.protocol import KillReason, Outcome, Pty, Size
from carrel.tenancy.handle import Tenant
from carrel.terminal.recording import Recording
from carrel.terminal.ring import Ring

WINDOW: Final = 256 << 10
"""Bytes that a viewer may be behind what it was sent."""
PIECE: Final = 32 << 10
BURST: Final = 64 << 10
"""Bytes that are read at a time, before anything else of the loop has its turn."""
SMALL: Final = 1 << 10
"""Up to so many bytes are what a person's keystroke brings: the next are read at once."""
PAUSE_SECONDS: Final = 0.004
LONGEST_PAUSE_SECONDS: Final = 0.1
LATE_RESTS: Final = 8
"""How many times as long a flood rests as the loop was late."""
FLOOD: Final = 2 << 20
"""Bytes a second of one terminal that are read at most: about a tenth of the loop's time, at 50 ms for each MiB."""
UNSEEN_PAUSE_SECONDS: Final = 0.05
STALL_SECONDS: Final = 30.0
MOST_PENDING: Final = 1 << 20
MOST_VIEWERS: Final = 8
LAST_SECONDS: Final = 2.0
QUIET_SECONDS: Final = 0.1
"""What was written before the end is read within this, also where nobody looks and reading is paced."""
INTERRUPT: Final = b"\x03"
_PID_SECONDS: Final = 0.005
_PID_TRIES: Final = 100

Reason = Literal["exit", "closed", "idle", "total_time", "revoked", "suspended", "shutdown"] | KillReason
"""Why a terminal ended. ``exit``: its shell did, by itself."""


@dataclass(frozen=True, slots=True)
class End:
    """How a terminal ended: the shell's exit code, or the signal that ended it."""

    reason: Reason
    exit_code: int | None
    signal: int | None


class Viewer(Protocol):
    """Who looks. Neither of these waits or fails."""

    def output(self, at: int, data: bytes) -> None:
        """Show ``data``, whose first byte is the terminal's byte number ``at``."""
        ...

    def ended(self, end: End) -> None:
        """Nothing more comes."""
        ...

    def dropped(self) -> None:
        """The viewer was too far behind for too long, and is shown nothing more."""
        ...


@dataclass(eq=False, slots=True)
class _Look:
    """How far a viewer is: ``sent`` and ``seen`` are positions."""

    sent: int
    seen: int
    moved: float


@dataclass(eq=False)
class Screen:
    """A running terminal of ``tenant``'s, opened by ``actor`` for ``member``."""

    id: str
    tenant: Tenant
    actor: str
    pty: Pty
    size: Size
    began: datetime
    now: Callable[[], float]
    recording: Recording | None = None
    allowed: Callable[[], bool] = lambda: True
    used: float = 0.0
    bytes_in: int = 0
    end: End | None = None
    _ring: Ring = field(init=False)
    _viewers: dict[Viewer, _Look] = field(default_factory=dict)
    _pending: bytearray = field(default_factory=bytearray)
    _writing: bool = False
    _reading: bool = False
    _pause: asyncio.TimerHandle | None = None
    _pace: float = PAUSE_SECONDS
    _due: float = 0.0
    _reason: Reason | None = None
    _last: bool = False
    _pid: int | None = None
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._ring = Ring(self.tenant.config.terminal.scrollback_bytes)
        self.used = self.now()
        if self.pty.note:
            self._ring.add(f"[{self.pty.note}]\r\n".encode())

    @property
    def member(self) -> str | None:
        """Whose it is, where that is known."""
        return self.tenant.member

    @property
    def bytes_out(self) -> int:
        """What it has shown so far."""
        return self._ring.end

    @property
    def viewers(self) -> int:
        """How many look."""
        return len(self._viewers)

    async def pid(self) -> int | None:
        """The shell's number in its sandbox, None where it is gone."""
        for _ in range(_PID_TRIES):
            if self._pid is not None or self.end is not None:
                break
            self._pid = await asyncio.to_thread(self.pty.pid)
            if self._pid is None:
                await asyncio.sleep(_PID_SECONDS)
        return self._pid if self.end is None else None

    # --- those who look ---

    def attach(self, viewer: Viewer, *, after: int | None) -> int:
        """Show ``viewer`` what there is from position ``after`` on, else all that is kept; where that begins.

        Raises RateLimited where too many look.
        """
        if len(self._viewers) >= MOST_VIEWERS and viewer not in self._viewers:
            raise RateLimited(f"{MOST_VIEWERS} look at this terminal already.", retry_after=5.0)
        self.used = self.now()
        at = self._ring.start if after is None else min(max(after, self._ring.start), self._ring.end)
        self._viewers.pop(viewer, None)
        self._viewers[viewer] = _Look(at, at, self.used)
        # Behind the answer to whoever asked.
        asyncio.get_running_loop().call_soon(self._show_first, viewer)
        if at > (after or 0) and self.end is None:
            # What is drawn on the screen may have begun in what is gone: programs draw it anew for another size.
            self.pty.resize(Size(self.size.columns, max(1, self.size.rows - 1)))
            self.pty.resize(self.size)
        return at

    def detach(self, viewer: Viewer) -> None:
        """Show ``viewer`` nothing more."""
        if self._viewers.pop(viewer, None) is not None:
            self._go_on()

    def seen(self, viewer: Viewer, at: int) -> None:
        """``viewer`` has shown all before position ``at``."""
        look = self._viewers.get(viewer)
        if look is None or not look.seen < at <= look.sent:
            return
        look.seen, look.moved = at, self.now()
        self._show(viewer)
        self._go_on()

    def drop_stalled(self) -> None:
        """Let go of who is a window behind and does not move: the others, and the command, wait for them."""
        now = self.now()
        for viewer, look in list(self._viewers.items()):
            if look.sent < self._ring.end and now - look.moved > STALL_SECONDS:
                self.detach(viewer)
                viewer.dropped()

    async def read(self, after: int, *, most: int, wait: float) -> tuple[int, bytes]:
        """Up to ``most`` bytes from ``after`` on and where they begin; waits up to ``wait`` seconds for the first."""
        if after >= self._ring.end and wait > 0 and self.end is None:
            try:
                async with asyncio.timeout(wait):
                    while after >= self._ring.end and self.end is None:
                        await self._news.wait()
            except TimeoutError:
                pass
        return self._ring.since(after, most)

    def _show_first(self, viewer: Viewer) -> None:
        if viewer in self._viewers:
            self._show(viewer)
            self._go_on()

    def _show(self, viewer: Viewer) -> None:
        look = self._viewers[viewer]
        while look.sent < self._ring.end and look.sent - look.seen < WINDOW:
            at, data = self._ring.since(look.sent, PIECE)
            look.sent = at + len(data)
            viewer.output(at, data)
        if self.end is not None and look.sent >= self._ring.end:
            del self._viewers[viewer]
            viewer.ended(self.end)

    # --- the command ---

    def write(self, data: bytes) -> int:
        """Type ``data``; how many bytes the command has still to take. Raises RateLimited where those are too many."""
        if self.end is not None:
            raise InvalidRequest("This terminal has ended.", param="terminalId")
        if data == INTERRUPT and self._pending:
            # Whoever interrupts wants nothing of what was typed before and not read.
            self._pending.clear()
        if len(self._pending) + len(data) > MOST_PENDING:
            raise RateLimited(
                f"The command does not read: over {MOST_PENDING} bytes wait for it. Ctrl-C drops them.", retry_after=1.0
            )
        self.used = self.now()
        self.bytes_in += len(data)
        self._pending += data
        self._flush()
        return len(self._pending)

    def resize(self, size: Size) -> None:
        """Have another size from now on."""
        self.used = self.now()
        if size != self.size and self.end is None:
            self.size = size
            self.pty.resize(size)
            if self.recording is not None:
                self.recording.resized(size)

    def stop(self, why: Reason) -> None:
        """End it."""
        if self._reason is None and self.end is None:
            self._reason = why
            self.pty.stop("cancelled")

    def fail(self) -> None:
        """It has ended, and nobody knows how: the gateway stops, or the sandbox failed."""
        self._ended(Outcome(None, None, b"", b"", 0, "cancelled", 0.0))

    async def run(self) -> End:
        """Carry bytes until the command has ended and what it wrote is read; how it ended."""
        self._go_on()
        try:
            outcome = await self.pty.ended()
            # What is left is no more than fits into the ring, whoever is behind.
            self._last = True
            self._go_on()
            await self._rest()
        finally:
            self._let_go()
        return self._ended(outcome)

    async def _rest(self) -> None:
        """Wait for the last of what was written. A process in the background may hold the terminal, and say nothing."""
        until = asyncio.get_running_loop().time() + LAST_SECONDS
        before = -1
        while before != self._ring.end and asyncio.get_running_loop().time() < until:
            before = self._ring.end
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    await self._over.wait()
            except TimeoutError:
                continue

    def _ended(self, outcome: Outcome) -> End:
        killed: Reason | None = "total_time" if outcome.killed == "wall_clock" else outcome.killed
        self.end = End(self._reason or killed or "exit", outcome.exit_code, outcome.signal)
        self._tell()
        for viewer in list(self._viewers):
            self._show(viewer)
        return self.end

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _flush(self) -> None:
        """Hand over what the pty takes; the rest when it takes more."""
        try:
            while self._pending:
                written = os.write(self.pty.master, self._pending)
                del self._pending[:written]
        except BlockingIOError:
            pass
        except OSError:
            self._pending.clear()
        if bool(self._pending) is self._writing:
            return
        self._writing = not self._writing
        loop = asyncio.get_running_loop()
        if self._writing:
            loop.add_writer(self.pty.master, self._flush)
        else:
            loop.remove_writer(self.pty.master)

    def _go_on(self) -> None:
        """Read, where everybody who looks has been sent what there is, and it is not for the loop's sake to wait."""
        wanted = (
            not self._over.is_set()
            and self.end is None
            and self._pause is None
            and (self._last or all(look.sent >= self._ring.end for look in self._viewers.values()))
        )
        if wanted is self._reading:
            return
        self._reading = wanted
        loop = asyncio.get_running_loop()
        if wanted:
            loop.add_reader(self.pty.master, self._readable)
        else:
            loop.remove_reader(self.pty.master)

    def _readable(self) -> None:
        data = self._burst()
        if data:
            self.used = self.now()
            self._ring.add(data)
            if self.recording is not None:
                self.recording.output(data)
            self._tell()
            for viewer in list(self._viewers):
                self._show(viewer)
        if len(data) > SMALL:
            seconds = max(self._pace, len(data) / FLOOD, 0.0 if self._viewers else UNSEEN_PAUSE_SECONDS)
            loop = asyncio.get_running_loop()
            self._due = loop.time() + seconds
            self._pause = loop.call_later(seconds, self._paused)
        self._go_on()

    def _burst(self) -> bytes:
        taken = b""
        try:
            while len(taken) < BURST:
                piece = os.read(self.pty.master, BURST - len(taken))
                if not piece:
                    self._over.set()
                    break
                taken += piece
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._over.set()
        return taken

    def _paused(self) -> None:
        """Go on, and where the loop was late for this, rest longer the next time: others wait for it too."""
        self._pause = None
        late = asyncio.get_running_loop().time() - self._due
        self._pace = min(max(PAUSE_SECONDS, late * LATE_RESTS), LONGEST_PAUSE_SECONDS)
        self._go_on()

    def _let_go(self) -> None:
        """Touch the descriptor no more, which its owner is about to close."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.pty.master)
        loop.remove_writer(self.pty.master)
        self._reading = self._writing = False
        self._over.set()
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
