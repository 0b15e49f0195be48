"""SQLite opened one way, on threads of its own, with a ceiling on how many databases are open.

WAL with synchronous=FULL: what was committed is on the disk. A full disk is StorageFull and one that fails
StorageFailed, whatever was being done.
"""

import asyncio
import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import apsw
import structlog

from carrel.errors import CarrelError, Conflict, StorageFailed, StorageFull, Unavailable, lacking

_log = structlog.get_logger(__name__)
T = TypeVar("T")
BUSY_MILLISECONDS: Final = 5000
CACHE_KIB: Final = 64
OPEN_DATABASES: Final = 64
"""At about 145 KiB and three descriptors each."""
DISK_FULL: Final = "The disk is full: nothing was written, and what was written before can be read."
FAILED: Final = "The disk fails ({}): nothing was written. Try again; the operator finds it in the log."

_OPEN: Final = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_EXRESCODE


class AlreadyThere(Conflict):
    """A row breaks a constraint: most often it is there already."""


class Damaged(CarrelError):
    """What is there is no database, or none that is whole."""


def open_database(path: Path | str, *, schema: Callable[[apsw.Connection], None] | None = None) -> apsw.Connection:
    """The database at ``path``, made where it is missing; ``schema`` brings it up to date in one transaction."""
    with translated():
        try:
            return _opened(path, schema)
        except apsw.CantOpenError as error:
            if _is_full(Path(path).parent):
                raise StorageFull(DISK_FULL) from error
            if _has_descriptors():
                _tell_why_not(Path(path))
            raise


def _opened(path: Path | str, schema: Callable[[apsw.Connection], None] | None) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=_OPEN, statementcachesize=16)
    try:
        connection.set_busy_timeout(BUSY_MILLISECONDS)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.pragma("foreign_keys", "on")
        connection.pragma("trusted_schema", "off")
        connection.pragma("cache_size", -CACHE_KIB)
        if schema is not None:
            with transaction(connection):
                schema(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _tell_why_not(path: Path) -> None:
    """SQLite does not say why it cannot open ``path``: the kernel does. Raises StorageFailed where it is the disk."""
    place, how = (path, os.O_RDWR) if path.exists() else (path.parent, os.O_RDWR | os.O_TMPFILE)
    try:
        os.close(os.open(place, how | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if isinstance(lacking(error, ""), StorageFailed):
            raise StorageFailed(FAILED.format(error.strerror)) from error
        _log.error("a database cannot be opened", file=os.path.realpath(path), reason=error.strerror)
    else:
        _log.error("a database cannot be opened", file=os.path.realpath(path), reason="it is no file of its kind")


@contextmanager
def translated() -> Iterator[None]:
    """Turns SQLite's errors into ours, where they are raised."""
    try:
        yield
    except apsw.FullError as error:
        raise StorageFull(DISK_FULL) from error
    except apsw.IOError as error:
        # Shared memory that cannot grow is an I/O error to SQLite, not a full disk.
        if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE:
            raise StorageFull(DISK_FULL) from error
        raise StorageFailed(FAILED.format("Input/output error")) from error
    except apsw.ReadOnlyError as error:
        raise StorageFailed(FAILED.format("Read-only file system")) from error
    except apsw.CantOpenError as error:
        if _has_descriptors():
            raise CarrelError("A database cannot be opened; the operator's log says why.") from error
        raise Unavailable("Too many files are open for now: nothing was written. Try again in a moment.") from error
    except apsw.ConstraintError as error:
        raise AlreadyThere("A database refused a row that breaks a rule of its own.") from error
    except apsw.BusyError as error:
        raise Unavailable("A database is busy; try again in a moment.") from error
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise Damaged(f"A database is damaged ({type(error).__name__}); the operator's log says which.") from error
    except apsw.Error as error:
        raise CarrelError(f"A database failed ({type(error).__name__}); the operator's log says why.") from error


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """One transaction, committed at the end or wholly undone. Raises StorageFull and the others of `translated`.

    Not by savepoints: on a full disk SQLite undoes everything by itself, and a savepoint's end would then hide why.
    """
    with translated():
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _has_descriptors() -> bool:
    """Whether this process may open one more file."""
    try:
        os.close(os.open("/", os.O_PATH | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    return True


def _is_full(directory: Path) -> bool:
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    return found.f_bavail == 0 or (found.f_files > 0 and found.f_favail == 0)


class DatabasePool:
    """Open databases by key, the longest unused closed when there are too many. For use on one thread."""

    def __init__(self, open_one: Callable[[str], apsw.Connection], *, limit: int = OPEN_DATABASES) -> None:
        self._open_one = open_one
        self._limit = max(limit, 1)
        self._open: OrderedDict[str, apsw.Connection] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, key: str) -> apsw.Connection:
        """The database of ``key``, opened where it is not."""
        connection = self._open.get(key)
        if connection is not None:
            self._open.move_to_end(key)
            return connection
        while len(self._open) >= self._limit:
            self._open.popitem(last=False)[1].close()
        connection = self._open[key] = self._open_one(key)
        return connection

    def discard(self, key: str) -> None:
        """Close the database of ``key``: before its directory is removed, or after it failed."""
        connection = self._open.pop(key, None)
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Close them all."""
        while self._open:
            self._open.popitem()[1].close()


class Worker:
    """One thread that work is done on in order, off the event loop.

    By a ``niceness`` of more than the process's it gives way to the other threads where processors are few.
    """

    def __init__(self, name: str, *, niceness: int = 0) -> None:
        self._pool = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix=name, initializer=_give_way, initargs=(niceness,)
        )
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """``work`` done on the thread, and its result; what began is finished also where the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Wait for what was given to it, and end the thread. Blocks: call it last."""
        with self._lock:
            self._pool.shutdown(wait=True)


def _give_way(niceness: int) -> None:
    if niceness:
        # To Linux each thread is a process of its own here. Where that is forbidden it goes without.
        with suppress(PermissionError):
            me = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, me, max(niceness, os.getpriority(os.PRIO_PROCESS, me)))
