"""The state directory of one gateway: made private, and held by a lock so that two never share it."""

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from carrel.durability import make_directory, sync_filesystem
from carrel.errors import CarrelError, StorageFailed, StorageFull, lacking

_LAYOUT: Final = ("tenants", "audit", "envs", "run")
MAY_BE_FIRST: Final = frozenset({"lost+found", "master.key", "audit-signing-key"})
"""What may be there before the first start: of a file system's own root, and keys that an operator put there."""
_PID_DIGITS: Final = 10


class StateInUse(CarrelError):
    """Another gateway holds the state directory."""

    code = "state_in_use"


class NotState(CarrelError):
    """The directory is there already, and somebody else's things are in it."""

    code = "not_state"


def refused_by_disk(error: OSError) -> CarrelError | None:
    """What is told of a start that the disk refused; None where it is not that."""
    match lacking(error, ""):
        case StorageFull():
            return StorageFull("The disk is full: nothing is started.")
        case StorageFailed():
            return StorageFailed(f"The disk fails ({error.strerror}): nothing is started.")
        case _:
            return None


def mend_of(error: CarrelError, path: Path) -> str:
    """A sentence more on what the disk of the state directory ``path`` refused a gateway that starts, or nothing."""
    match error:
        case StorageFull():
            return f" Make room where the state directory is ({path}), and start it again."
        case StorageFailed():
            return f" Look after the disk of the state directory ({path}): it may need a check, and to be mounted anew."
        case _:
            return ""


class StateDir:
    """Holds the lock from ``__enter__`` to ``__exit__``; the kernel gives it back if the process dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = self._top = -1
        self.was_killed = False
        """Whether the gateway before this one did not come to its end."""

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.path / "run" / "control.sock"

    def __enter__(self) -> Self:
        try:
            make_directory(self.path)
            self._refuse_other_things()
            self.path.chmod(0o700)
            for name in _LAYOUT:
                make_directory(self.path / name)
        except OSError as error:
            raise self._unusable(error) from error
        self._lock = self._opened()
        try:
            self._top = self._held()
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            self._close()
            raise StateInUse(
                f"another gateway (pid {holder}) uses the state directory {self.path}: stop it, or choose another "
                "with --state-dir."
            ) from error
        except OSError as error:
            self._close()
            raise self._unusable(error) from error
        self.was_killed = os.pread(self._lock, 1, 0).isdigit()
        if self.was_killed:
            # What it did not come to sync is read now, and told on from here.
            sync_filesystem(self.path)
        try:
            self._mark(str(os.getpid()))
        except OSError as error:
            self._close()
            raise self._unusable(error) from error
        return self

    def _held(self) -> int:
        """A descriptor that holds the directory itself, for a file in it may be taken for a stale one and removed.

        Raises BlockingIOError where another holds it. Not every network's file system can do this.
        """
        top = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(top, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(top)
            raise
        except OSError:
            pass
        return top

    def _close(self) -> None:
        for fd in (self._lock, self._top):
            if fd >= 0:
                os.close(fd)
        self._lock = self._top = -1

    def _mark(self, holder: str) -> None:
        """Name who holds it, over what is there and as long: a full disk has no place for more."""
        os.pwrite(self._lock, f"{holder:<{_PID_DIGITS}}\n".encode(), 0)

    def _opened(self) -> int:
        try:
            return os.open(self.path / "run" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> CarrelError:
        return refused_by_disk(error) or CarrelError(
            f"the state directory {self.path} cannot be used: {error.strerror}. Choose another with --state-dir."
        )

    def _refuse_other_things(self) -> None:
        """A name that was mistyped must not close a directory of other things and scatter state among them."""
        names = {name for name in os.listdir(self.path) if not name.startswith(".")} - MAY_BE_FIRST
        if names and not names & {*_LAYOUT, "git"}:
            raise NotState(
                f"{self.path} is not empty and is no state directory of Carrel's: name an empty or new one with "
                "--state-dir."
            )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # Where the disk takes no change the next one finds what a killed one leaves, and does more than it must.
        with contextlib.suppress(OSError):
            self._mark("")
        self._close()
