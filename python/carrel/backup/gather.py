"""What is in a tenant's directory, in order, and its content while the tenant works.

Databases of the gateway's own are copied by SQLite's online backup, files of lines end at the end of a line, and all
others are read again where they changed meanwhile. What is damaged is told, and taken as it is: everything else of a
tenant does not wait for one file. Nothing is opened by name from outside, no link is followed, and
what is neither file, directory nor a link that stays inside is left out and counted.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from carrel.backup.catalogue import Block, Hole
from carrel.backup.contents import NOT_KEPT
from carrel.backup.names import (
    MOST_DEPTH,
    is_database,
    is_database_side,
    is_lines,
    is_workspace,
    require_link,
    require_path,
)
from carrel.errors import CarrelError, StorageFailed, StorageFull, TooLarge, UnsafePath, lacking
from carrel.store.sqlite import Damaged, translated
from carrel.tenancy.paths import HALF_WRITTEN, open_beneath

MOST_ENTRIES: Final = 2_000_000
BLOCK: Final = 1 << 20
_BACK: Final = 64 << 10
_READS: Final = 3
_LOG: Final = "-wal"
LeftOut = Callable[[str, str], None]
"""Told of a path that is left out, and why."""
Damage = Callable[[str], None]
"""Told what is wrong with the file that is being read."""


class Changed(Exception):
    """A file changed while it was read."""


@dataclass(frozen=True, slots=True)
class Found:
    """One name. ``directory`` is open while it is being looked at; ``seen`` changes with the file's content."""

    path: str
    kind: str
    mode: int
    mtime: int
    size: int
    seen: tuple[int, ...]
    target: str
    directory: int
    name: str


class Gathering:
    """One walk over the directory of which ``root`` is a descriptor and ``owner`` the owner's uid. Blocking.

    ``going`` is called at each name, and raises where the walk is to end.
    """

    def __init__(self, root: int, *, owner: int, left_out: LeftOut, going: Callable[[], None]) -> None:
        self._root = root
        self._owner = owner
        self._left_out = left_out
        self._going = going
        self._count = 0
        self.damaged: dict[str, str] = {}

    def total(self) -> int:
        """The bytes that a walk would give now."""
        quiet = Gathering(self._root, owner=self._owner, left_out=lambda path, why: None, going=self._going)
        return sum(found.size for found in quiet)

    def __iter__(self) -> Iterator[Found]:
        yield from self._walk(self._root, "", 0)

    def _walk(self, directory: int, above: str, depth: int) -> Iterator[Found]:
        names = sorted(os.listdir(directory))
        for name in names:
            self._going()
            path = f"{above}{name}"
            if (not above and name in NOT_KEPT) or HALF_WRITTEN.fullmatch(name) or self._is_in_a_copy(path):
                continue
            self._count += 1
            if self._count > MOST_ENTRIES:
                raise TooLarge(f"The tenant has over {MOST_ENTRIES} files, which is the most that a backup holds.")
            try:
                require_path(path)
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
                yield from self._one(directory, name, path, found, depth)
            except UnsafePath as error:
                self._left_out(_shown(path), error.message)
            except FileNotFoundError:
                continue
            except PermissionError:
                self._left_out(path, "It cannot be read.")
            except OSError as error:
                self.unreadable(path, error)

    def damage(self, path: str, why: str) -> None:
        """Note that the file at ``path`` is damaged; of a database its log is given then too, for nothing has it."""
        self.damaged.setdefault(path, why)

    def unreadable(self, path: str, error: OSError) -> None:
        """Leave out what the disk does not give, and note that; raises CarrelError where it is not the disk's fault."""
        lacks = lacking(error, "no backup was made")
        if not isinstance(lacks, StorageFailed) or isinstance(lacks, StorageFull):
            raise lacks or CarrelError(f"{path} could not be read: {os.strerror(error.errno or 0)}.") from error
        why = f"The disk does not give it ({os.strerror(error.errno or 0)})."
        self._left_out(path, why)
        self.damage(path, why)

    def _is_in_a_copy(self, path: str) -> bool:
        """Whether all of the file is in the copy of the database that it goes with."""
        return is_database_side(path) and not (path.endswith(_LOG) and path.removesuffix(_LOG) in self.damaged)

    def _one(self, directory: int, name: str, path: str, found: os.stat_result, depth: int) -> Iterator[Found]:
        mode = stat.S_IMODE(found.st_mode) & 0o777
        if stat.S_ISREG(found.st_mode):
            if found.st_uid != self._owner or (found.st_nlink != 1 and not is_workspace(path)):
                raise UnsafePath("It belongs to somebody else, or has more than one name.")
            seen: tuple[int, ...] = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if is_database(path):
                seen += _side(directory, name)
            yield Found(path, "file", mode, found.st_mtime_ns, found.st_size, seen, "", directory, name)
        elif stat.S_ISLNK(found.st_mode):
            target = require_link(path, os.readlink(name, dir_fd=directory))
            yield Found(path, "link", 0o777, found.st_mtime_ns, 0, (), target, directory, name)
        elif stat.S_ISDIR(found.st_mode):
            if depth >= MOST_DEPTH:
                raise UnsafePath("It is too deep.")
            inner = open_beneath(directory, name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                yield Found(path, "directory", mode, found.st_mtime_ns, 0, (), "", directory, name)
                yield from self._walk(inner, f"{path}/", depth + 1)
            finally:
                os.close(inner)
        else:
            raise UnsafePath("It is neither file, directory nor link.")


def read(found: Found, *, temporary: Path, restart: Callable[[], None], damage: Damage) -> Iterator[Block]:
    """The content in blocks, and in a workspace holes of a block or more.

    Where the file changed meanwhile ``restart`` is called, and it begins anew. One that changes all the time is given
    as it was read last. ``temporary`` is a directory for copies of databases. A database that SQLite cannot copy is
    given as it lies there, one whose copy is not whole as it was copied; ``damage`` is told of both. Raises
    FileNotFoundError where the file is gone, UnsafePath where it is no plain file any more, and OSError.
    """
    if is_database(found.path):
        try:
            yield from _database(found, temporary, damage)
        except Damaged as error:
            damage(error.message)
        except StorageFailed as error:
            if not isinstance(error, StorageFull):
                # Of the two disks it is this one only where the file cannot be read: that raises OSError.
                deque(_file(found, accept=True), maxlen=0)
            raise
        else:
            return
    for left in reversed(range(_READS)):
        try:
            yield from _file(found, accept=not left)
        except Changed:
            restart()
        else:
            return


def _file(found: Found, *, accept: bool) -> Iterator[Block]:
    fd = open_beneath(found.directory, found.name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            raise UnsafePath("It is no file any more.")
        lines = is_lines(found.path)
        end = _border(fd, before.st_size) if lines else before.st_size
        sparse = is_workspace(found.path) and before.st_blocks * 512 < before.st_size
        at = until = 0
        while at < end:
            if sparse and at >= until:
                begin, until = _data(fd, at, end)
                if begin - at >= BLOCK:
                    yield Hole(begin - at)
                    at = begin
                    continue
            block = os.pread(fd, min(BLOCK, (until if sparse else end) - at), at)
            if not block:
                break
            at += len(block)
            yield block
        after = os.fstat(fd)
        same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        grown = lines and after.st_size >= before.st_size
        if not (same or grown or accept):
            raise Changed
    finally:
        os.close(fd)


def _data(fd: int, at: int, end: int) -> tuple[int, int]:
    """Where data begins and ends next, from ``at`` on; both are ``end`` where there is none."""
    try:
        begin = min(os.lseek(fd, at, os.SEEK_DATA), end)
        return begin, min(os.lseek(fd, begin, os.SEEK_HOLE), end)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return end, end
        # Of this file system nobody says where its holes are.
        return at, end


def _border(fd: int, size: int) -> int:
    """Where the last whole line ends."""
    at = size
    while at > 0:
        begin = max(at - _BACK, 0)
        newline = os.pread(fd, at - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        at = begin
    return 0


def _database(found: Found, temporary: Path, damage: Damage) -> Iterator[bytes]:
    """A copy at one moment, made by SQLite: opening the file itself would end the locks that this process has on it.

    Raises Damaged and what else `translated` does, before anything is given, where there is no copy.
    """
    copy = temporary / f"database-{os.urandom(8).hex()}"
    try:
        with translated():
            flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_EXRESCODE
            source = apsw.Connection(f"/proc/self/fd/{found.directory}/{found.name}", flags=flags)
            try:
                source.set_busy_timeout(10_000)
                _copied(source, copy, damage)
            except apsw.Error:
                # A log that SQLite makes nothing of would be gone with its last reader.
                source.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                raise
            finally:
                source.close()
        with copy.open("rb") as file:
            while block := file.read(BLOCK):
                yield block
    finally:
        for left in (copy, copy.with_name(copy.name + "-journal"), copy.with_name(copy.name + "-wal")):
            left.unlink(missing_ok=True)


def _copied(source: apsw.Connection, copy: Path, damage: Damage) -> None:
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_EXRESCODE
    target = apsw.Connection(str(copy), flags=flags)
    try:
        target.pragma("synchronous", "off")
        with target.backup("main", source, "main") as work:
            # In one step: it is a reader's moment, which in WAL mode holds no writer up.
            work.step(-1)
        if wrong := _wrong(target):
            damage(wrong)
        target.pragma("journal_mode", "delete")
    finally:
        target.close()


def _wrong(copy: apsw.Connection) -> str:
    """What is wrong with a database, empty where nothing is."""
    try:
        found: Any = copy.execute("PRAGMA quick_check(1)").fetchone()
    except apsw.Error as error:
        return f"The database is damaged ({type(error).__name__})."
    return "" if found[0] == "ok" else f"The database is damaged: {found[0]}"[:200]


def _side(directory: int, name: str) -> tuple[int, ...]:
    """What changes with a database's log, where its newest rows are."""
    try:
        found = os.stat(f"{name}-wal", dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return ()
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _shown(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()[:400]
