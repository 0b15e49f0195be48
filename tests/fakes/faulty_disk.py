"""A disk that loses what was not synced and fails when told to, and a clock that jumps: for a gateway and its git.

`faulty_disk.c` does it in the process, loaded before the C library; here is how one is started with it, what is told to
it meanwhile, and what a power cut leaves of the directory.
"""

import ctypes
import errno
import mmap
import os
import shutil
import stat
import struct
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

SOURCE: Final = Path(__file__).with_suffix(".c")
Call = Literal["sync", "write", "read", "rename", "unlink"]
_CALLS: Final[dict[Call, int]] = {"sync": 1, "write": 2, "read": 4, "rename": 8, "unlink": 16}
_CONTROL: Final = struct.Struct("=qii128siiii128sii")
"""As `struct control` in the C source."""
_PRELOADED: Final = """\
import os, sys
if os.environ.get("LD_PRELOAD") != {library!r}:
    os.environ.update(LD_PRELOAD={library!r}, FAULTY_DISK_ROOT={root!r}, FAULTY_DISK_STORE={store!r})
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
"""
_GIT: Final = """\
#!/bin/sh
export LD_PRELOAD={library} FAULTY_DISK_ROOT={root} FAULTY_DISK_STORE={store}
exec {git} "$@"
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What goes wrong now."""

    clock_seconds: float = 0.0
    fail_errno: int = 0
    fail_calls: int = 0
    fail_path: str = ""
    kill_group: int = 0
    kill_call: int = 0
    kill_after: bool = False
    kill_countdown: int = 0
    kill_path: str = ""

    def packed(self) -> bytes:
        """As the C side reads it."""
        return _CONTROL.pack(
            int(self.clock_seconds * 1e9), self.fail_errno, self.fail_calls, self.fail_path.encode(), self.kill_group,
            self.kill_call, int(self.kill_after), self.kill_countdown, self.kill_path.encode(), 0, 0,
        )  # fmt: skip


class FaultyDisk:
    """The directory ``root`` on such a disk; ``store`` is beside it, where files have a time of birth."""

    def __init__(self, root: Path, store: Path) -> None:
        self.root = root.resolve()
        self.store = store
        self._told = Told()
        for name in ("i", "d", "t", "bin", "python"):
            (store / name).mkdir(parents=True, exist_ok=True)
            (store / name).chmod(0o777)
        store.chmod(0o777)
        self._library = store / "faulty_disk.so"
        if not self._library.exists():
            build = ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wno-format-truncation", "-o", str(self._library)]
            subprocess.run([*build, str(SOURCE), "-ldl"], check=True)
        self._prepare_programs()
        control = store / "control"
        control.write_bytes(bytes(mmap.PAGESIZE))
        control.chmod(0o666)
        with control.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), mmap.PAGESIZE)

    def _prepare_programs(self) -> None:
        where = {"library": str(self._library), "root": str(self.root), "store": str(self.store)}
        (self.store / "python" / "sitecustomize.py").write_text(_PRELOADED.format(**where))
        git = self.store / "bin" / "git"
        git.write_text(_GIT.format(git=shutil.which("git"), **where))
        git.chmod(0o755)

    @property
    def env(self) -> dict[str, str]:
        """For a gateway that is to be on it, also where root starts it; git by its path is on it too."""
        paths = {"PATH": f"{self.store / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(self.store / "python")}
        return {**paths, **self.program_env}

    @property
    def program_env(self) -> dict[str, str]:
        """For any program that is to be on it at once."""
        return {
            "LD_PRELOAD": str(self._library), "FAULTY_DISK_ROOT": str(self.root), "FAULTY_DISK_STORE": str(self.store)
        }  # fmt: skip

    def close(self) -> None:
        """Give the page back; the store stays."""
        self._page.close()

    # --- what goes wrong ---

    def _tell(self, told: Told) -> None:
        self._told = told
        self._page[: _CONTROL.size] = told.packed()

    def fail(self, code: int, *calls: Call, path: str = "") -> None:
        """Let ``calls`` on what has ``path`` in its name fail with the errno ``code``, until `heal`."""
        told = sum(_CALLS[call] for call in calls)
        self._tell(replace(self._told, fail_errno=code, fail_calls=told, fail_path=path))

    def io_error(self, *calls: Call, path: str = "") -> None:
        """As `fail`, with EIO."""
        self.fail(errno.EIO, *calls, path=path)

    def heal(self) -> None:
        """No call fails any more, and nobody is killed."""
        self._tell(Told(clock_seconds=self._told.clock_seconds))

    def jump(self, seconds: float) -> None:
        """Set the wall clock so far from the real one."""
        self._tell(replace(self._told, clock_seconds=seconds))

    def kill_at(self, group: int, call: Call, *, path: str = "", after: bool = False, time: int = 1) -> None:
        """SIGKILL to ``group`` (a process where it is positive) at the ``time``-th such call."""
        self._tell(replace(
            self._told, kill_group=group, kill_call=_CALLS[call], kill_after=after, kill_countdown=time, kill_path=path
        ))  # fmt: skip

    @property
    def failed(self) -> int:
        """How many calls failed since it was told so."""
        return int(_CONTROL.unpack(self._page[: _CONTROL.size])[10])

    @property
    def killed(self) -> bool:
        """Whether the call at which somebody is killed was reached."""
        return bool(_CONTROL.unpack(self._page[: _CONTROL.size])[9])

    # --- what a power cut leaves ---

    def sync(self) -> None:
        """All that is there now counts as synced, and nothing else is kept."""
        for name in ("i", "d", "t"):
            shutil.rmtree(self.store / name)
            (self.store / name).mkdir()
            (self.store / name).chmod(0o777)
        for one in (*self.store.glob("whole-*"), *self.store.glob("half-*")):
            shutil.rmtree(one)
        library = ctypes.CDLL(str(self._library))
        library.faulty_disk_keep_all(os.fsencode(self.root), os.fsencode(self.store))

    def power_cut(self) -> None:
        """Put what was synced in the place of all that is there. Nobody may be running on it."""
        new = self.root.with_name(f"{self.root.name}.after")
        old = self.root.with_name(f"{self.root.name}.before")
        self._lay_out(new, os.lstat(self.root), self._key(self.root))
        self.root.rename(old)
        new.rename(self.root)
        shutil.rmtree(old)
        self.sync()

    def _key(self, path: Path) -> str:
        """As `key_of` in the C source: it is the only entry of the directory above that leads here."""
        found = os.lstat(path)
        keys = {one.name for one in self.store.glob(f"**/{found.st_ino}-*")}
        assert len(keys) == 1, keys
        return keys.pop()

    def _kept(self, kind: str, key: str) -> Path | None:
        """The newest of what was kept of it."""
        places = (self.store / kind / key, *(one / kind / key for one in self.store.glob("whole-*")))
        return max((p for p in places if p.exists()), key=lambda p: p.stat().st_mtime_ns, default=None)

    def _lay_out(self, path: Path, like: os.stat_result, key: str) -> None:
        path.mkdir()
        kept = self._kept("d", key)
        if kept is not None:
            fields = kept.read_bytes().split(b"\0")[:-1]
            for line, target in zip(fields[::2], fields[1::2], strict=True):
                mode, uid, gid, below, name = line.split(b" ", 4)
                self._lay_out_one(path / os.fsdecode(name), int(mode, 8), below.decode(), target)
                os.chown(path / os.fsdecode(name), int(uid), int(gid), follow_symlinks=False)
                if not stat.S_ISLNK(int(mode, 8)):
                    (path / os.fsdecode(name)).chmod(stat.S_IMODE(int(mode, 8)))
        os.chown(path, like.st_uid, like.st_gid)
        path.chmod(stat.S_IMODE(like.st_mode))

    def _lay_out_one(self, path: Path, mode: int, key: str, target: bytes) -> None:
        if stat.S_ISDIR(mode):
            self._lay_out(path, os.lstat(self.root), key)
        elif stat.S_ISLNK(mode):
            path.symlink_to(os.fsdecode(target))
        elif stat.S_ISREG(mode):
            kept = self._kept("i", key)
            path.write_bytes(kept.read_bytes() if kept is not None else b"")
        else:
            os.mknod(path, mode)


def run_on(disk: FaultyDisk, program: str) -> None:
    """A short Python program on the disk, to its end."""
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, **disk.program_env}, cwd=disk.root)
