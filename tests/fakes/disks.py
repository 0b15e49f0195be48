"""Small file systems, for what happens as one gets full. They are in memory, so only root can make them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from carrel.sandbox.disk import Room, room_at
from tests.fakes.sandboxed import reachable

FILES: Final = 10_000
_OPTIONS: Final = f"size=128m,nr_inodes={FILES},mode=0711"


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of 128 MiB that every uid may pass through; a twentieth of it is kept free."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    with reachable() as path:
        subprocess.run(["mount", "-t", "tmpfs", "-o", _OPTIONS, "none", str(path)], check=True)
        try:
            yield path
        finally:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


def room(disk: Path) -> Room:
    """What may be taken of it."""
    fd = os.open(disk, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return room_at(fd)
    finally:
        os.close(fd)


def fill_up(disk: Path, *, but_bytes: int | None = None, but_files: int | None = None) -> None:
    """Take all but so much of the room: whoever then fills it little by little is over long before all is full."""
    if but_bytes is not None:
        with (disk / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, room(disk).bytes - but_bytes)
    if but_files is not None:
        fillers = disk / "fillers"
        fillers.mkdir()
        for number in range(room(disk).files - but_files):
            (fillers / f"{number}").touch()
