"""One directory that holds the paths of a closure, however many they are: a sandbox binds it at once.

The files are hard links to the store's where the store is this user's and on the same mount. Elsewhere (NixOS,
whose store is root's and a mount of its own) they are copies, which file systems that can share blocks make without
taking any space. A path that another environment has copied already is linked from there. All of it blocks.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

_CANNOT_LINK: Final = (errno.EPERM, errno.EXDEV, errno.EMLINK)
_CANNOT_CLONE: Final = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
_PIECE: Final = 64 << 20


def make(farm: Path, paths: Iterable[tuple[str, Path]], others: Iterable[Path], *, copies: bool) -> bool:
    """Fill ``farm``, which is new, with ``paths`` as (name, where it is). ``others`` are farms that were made before.

    False, and no farm, where files cannot be linked and ``copies`` are not allowed. Raises OSError.
    """
    before = tuple(others)
    farm.mkdir(mode=0o755)
    for name, source in paths:
        kept = next((other / name for other in before if (other / name).exists()), None)
        ways = [(source, _link)] + [(kept, _link)] * (kept is not None) + [(source, _copy)] * copies
        if not any(_tried(origin, farm / name, way) for origin, way in ways if origin is not None):
            remove(farm)
            return False
    return True


def _tried(source: Path, target: Path, way: Callable[[Path, Path], None]) -> bool:
    try:
        _tree(source, target, way)
    except OSError as error:
        remove(target)
        if error.errno in _CANNOT_LINK and way is _link:
            return False
        raise
    return True


def _tree(source: Path, target: Path, way: Callable[[Path, Path], None]) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    if not source.is_dir():
        way(source, target)
        return
    target.mkdir(mode=0o755)
    with os.scandir(source) as entries:
        for entry in entries:
            _tree(Path(entry.path), target / entry.name, way)
    target.chmod(0o555)


def _link(source: Path, target: Path) -> None:
    target.hardlink_to(source)


def _copy(source: Path, target: Path) -> None:
    """The kernel copies, and shares the blocks where the file system can."""
    with source.open("rb", buffering=0) as read, target.open("xb", buffering=0) as written:
        try:
            while os.copy_file_range(read.fileno(), written.fileno(), _PIECE):
                pass
        except OSError as error:
            if error.errno not in _CANNOT_CLONE or written.tell():
                raise
            shutil.copyfileobj(read, written, 1 << 20)
        status = os.fstat(read.fileno())
        os.fchmod(written.fileno(), 0o555 if status.st_mode & 0o100 else 0o444)
    # Python judges its compiled modules by the time of their source.
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))


def remove(path: Path) -> None:
    """Remove a file, a link, or a tree whose directories may be read-only."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    for at, directories, _ in os.walk(path):
        for name in directories:
            inner = Path(at) / name
            if not inner.is_symlink():
                inner.chmod(0o755)
    with contextlib.suppress(FileNotFoundError):
        path.chmod(0o755)
        shutil.rmtree(path)
