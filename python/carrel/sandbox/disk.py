"""A part of the disk that no command may fill: what the ledger, transcripts and other tenants live on."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

RESERVE_BYTES: Final = 256 << 20
RESERVE_PART: Final = 0.05
SLACK_BYTES: Final = 1 << 20
SLACK_INODES: Final = 256
LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Room:
    """What may be taken of a file system without touching what is kept free."""

    bytes: int
    files: int


def room_at(directory: int) -> Room:
    """The room of the file system that ``directory``, a descriptor, is on; negative where it is short already."""
    found = os.fstatvfs(directory)
    kept = min(RESERVE_BYTES, int(found.f_frsize * found.f_blocks * RESERVE_PART))
    files = found.f_favail - int(found.f_files * RESERVE_PART) if found.f_files else 1 << 62
    return Room(found.f_bavail * found.f_frsize - kept, files)


class DiskWatch:
    """Looks at the file system of the directory ``workspace`` while a command runs there, again and again.

    256 MiB or a twentieth of it, whichever is less, and a twentieth of its inodes are kept free: ``on_short`` is called
    once where that is no more so. Where it was not so before, a command may still run, to tidy up, and may not make it
    worse.
    """

    def __init__(self, workspace: int, on_short: Callable[[], None]) -> None:
        self._workspace = workspace
        self._on_short = on_short
        self._next: asyncio.TimerHandle | None = None
        found = os.fstatvfs(workspace)
        kept = min(RESERVE_BYTES, int(found.f_frsize * found.f_blocks * RESERVE_PART))
        self._bytes = min(kept, found.f_bavail * found.f_frsize - SLACK_BYTES)
        self._inodes = min(int(found.f_files * RESERVE_PART), found.f_favail - SLACK_INODES)

    def start(self) -> None:
        """Begin to look."""
        self._next = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def stop(self) -> None:
        """Look no more: the descriptor is its owner's to close."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    @property
    def is_short(self) -> bool:
        """Whether there is less room now than is kept."""
        found = os.fstatvfs(self._workspace)
        return found.f_bavail * found.f_frsize < self._bytes or found.f_favail < self._inodes

    def _look(self) -> None:
        self._next = None
        if self.is_short:
            self._on_short()
        else:
            self.start()
