"""The state directory of one gateway: made private, and held by a lock so that two never share it."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from carrel.durability import make_directory, sync_filesystem
from carrel.errors import CarrelError

_LAYOUT: Final = ("tenants", "audit", "envs", "run")
_MAY_BE_FIRST: Final = frozenset({"lost+found", "master.key", "audit-signing-key"})
"""What may be there before the first start: of a file system's own root, and keys that an operator put there."""


class StateInUse(CarrelError):
    """Another gateway holds the state directory."""

    code = "state_in_use"


class NotState(CarrelError):
    """The directory is there already, and somebody else's things are in it."""

    code = "not_state"


class StateDir:
    """Holds the lock from ``__enter__`` to ``__exit__``; the kernel gives it back if the process dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1
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
            raise CarrelError(
                f"the state directory {self.path} cannot be used: {error.strerror}. Choose another with --state-dir."
            ) from error
        self._lock = os.open(self.path / "run" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._lock)
            raise StateInUse(
                f"another gateway (pid {holder}) uses the state directory {self.path}: stop it, or choose another "
                "with --state-dir."
            ) from error
        self.was_killed = os.fstat(self._lock).st_size > 0
        if self.was_killed:
            # What it did not come to sync is read now, and told on from here.
            sync_filesystem(self.path)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        return self

    def _refuse_other_things(self) -> None:
        """A name that was mistyped must not close a directory of other things and scatter state among them."""
        names = {name for name in os.listdir(self.path) if not name.startswith(".")} - _MAY_BE_FIRST
        if names and not names & {*_LAYOUT, "git"}:
            raise NotState(
                f"{self.path} is not empty and is no state directory of Carrel's: name an empty or new one with "
                "--state-dir."
            )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.ftruncate(self._lock, 0)
        os.close(self._lock)
