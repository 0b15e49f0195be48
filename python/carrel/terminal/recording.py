"""A terminal's output as an asciicast, version 2: https://docs.asciinema.org/manual/asciicast/v2/.

One JSON line for the head and one for each event, so that what a crash leaves is a recording too. What was typed is not
in it, for nobody sees a password that is typed. Files lie in the tenant's directory, out of its sandbox's reach.
"""

import asyncio
import codecs
import contextlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from carrel.errors import CarrelError, NotFound
from carrel.sandbox.protocol import Size
from carrel.tasks import Tasks
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import TenantRoot

DIRECTORY: Final = "terminals"
WRITE_SECONDS: Final = 0.5
_NAME: Final = re.compile(r"(term_[0-9a-f]{24})\.cast")
_FULL: Final = "the recording ends here: it may be no longer (terminal.record_bytes)"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """A recording that is kept."""

    terminal_id: str
    size: int
    changed: float


class Recording:
    """One that is being made. Events wait in memory for at most half a second."""

    def __init__(self, fd: int, *, most: int, now: Callable[[], float]) -> None:
        self._fd = fd
        self._left = most
        self._now = now
        self._began = now()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting: list[bytes] = []
        self._full = False

    @classmethod
    async def begun(
        cls, tenant: Tenant, terminal_id: str, size: Size, *, moment: datetime, now: Callable[[], float]
    ) -> "Recording":
        """A new one, in the tenant's directory; the oldest go where there are too many. Raises StorageFull."""
        config = tenant.config.terminal
        fd = await asyncio.to_thread(_opened, tenant.root, terminal_id, config.recordings)
        # Who it was made for is told by where it lies: it may be brought back under another id.
        return cls.into(fd, size, title=terminal_id, moment=moment, now=now, most=config.record_bytes)

    @classmethod
    def into(
        cls, fd: int, size: Size, *, title: str, moment: datetime, now: Callable[[], float], most: int
    ) -> "Recording":
        """A new one, written to ``fd``, which is this object's from here on."""
        made = cls(fd, most=most, now=now)
        head = {
            "version": 2, "width": size.columns, "height": size.rows, "timestamp": int(moment.timestamp()),
            "title": title, "env": {"TERM": "xterm-256color", "SHELL": "/bin/sh"},
        }  # fmt: skip
        made._waiting.append(json.dumps(head).encode() + b"\n")
        return made

    def output(self, data: bytes) -> None:
        """Note what was shown."""
        text = self._decoder.decode(data)
        if text:
            self._note("o", text)

    def resized(self, size: Size) -> None:
        """Note another size."""
        self._note("r", f"{size.columns}x{size.rows}")

    def write_along(self, tasks: Tasks) -> "asyncio.Task[None]":
        """Write until `close`."""
        return tasks.start(self._write_along(), name="recording")

    async def close(self) -> None:
        """Write the rest, and give the file back."""
        fd, self._fd = self._fd, -1
        waiting, self._waiting = self._waiting, []
        if fd >= 0:
            await asyncio.to_thread(_write_and_close, fd, waiting)

    async def _write_along(self) -> None:
        while self._fd >= 0:
            await asyncio.sleep(WRITE_SECONDS)
            waiting, self._waiting = self._waiting, []
            if waiting and self._fd >= 0:
                await asyncio.shield(asyncio.to_thread(_write, self._fd, waiting))

    def _note(self, kind: str, text: str) -> None:
        if self._full:
            return
        line = json.dumps([round(self._now() - self._began, 6), kind, text]).encode() + b"\n"
        self._left -= len(line)
        if self._left < 0:
            self._full = True
            line = json.dumps([round(self._now() - self._began, 6), "m", _FULL]).encode() + b"\n"
        self._waiting.append(line)


def recordings(root: TenantRoot) -> tuple[Kept, ...]:
    """Those that are kept, the newest first."""
    try:
        found = [
            Kept(match[1], stat.st_size, stat.st_mtime)
            for name, stat in root.entries(DIRECTORY)
            if (match := _NAME.fullmatch(name)) is not None
        ]
    except NotFound:
        return ()
    return tuple(sorted(found, key=lambda one: one.changed, reverse=True))


def read_recording(root: TenantRoot, terminal_id: str, *, offset: int, most: int) -> tuple[bytes, int]:
    """Up to ``most`` bytes of one from ``offset`` on, and its size; raises NotFound."""
    if _NAME.fullmatch(f"{terminal_id}.cast") is None:
        raise NotFound("No such recording.")
    try:
        fd = root.open_file(f"{DIRECTORY}/{terminal_id}.cast")
    except NotFound:
        raise NotFound("No such recording.") from None
    try:
        return os.pread(fd, most, offset), os.fstat(fd).st_size
    finally:
        os.close(fd)


def _opened(root: TenantRoot, terminal_id: str, most: int) -> int:
    directory = root.directory(DIRECTORY, create=True)
    try:
        for old in recordings(root)[max(0, most - 1) :]:
            with contextlib.suppress(CarrelError):
                directory.remove(f"{old.terminal_id}.cast")
        return directory.open_file(f"{terminal_id}.cast", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    finally:
        directory.close()


def _write(fd: int, lines: list[bytes]) -> None:
    data = memoryview(b"".join(lines))
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError as error:
        _log.warning("a recording could not be written on", error=error.strerror)


def _write_and_close(fd: int, lines: list[bytes]) -> None:
    try:
        _write(fd, lines)
    finally:
        os.close(fd)
