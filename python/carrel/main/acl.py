"""POSIX access control lists as the kernel keeps them: one named user more, and nobody else's rights changed.

The format is that of the attributes ``system.posix_acl_access`` and ``system.posix_acl_default``
(linux/posix_acl_xattr.h): a version, then entries of tag, permission and id in the order of their tags and ids.
"""

import errno
import os
import struct
from pathlib import Path
from typing import Final

from carrel.errors import CarrelError

READ: Final = 4
WRITE: Final = 2
ENTER: Final = 1

_ACCESS: Final = "system.posix_acl_access"
_DEFAULT: Final = "system.posix_acl_default"
_VERSION: Final = 2
_HEAD: Final = struct.Struct("<I")
_ENTRY: Final = struct.Struct("<HHI")
_NOBODY: Final = 0xFFFFFFFF
_OWNER, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_MASKED: Final = (_USER, _GROUP, _NAMED_GROUP)
_WITHOUT: Final = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EROFS, errno.EPERM, errno.EACCES)

Entries = dict[tuple[int, int], int]
"""Permissions by tag and id; the id of a tag that names nobody is 2**32 - 1."""


class NoAccessLists(CarrelError):
    """The file system keeps no access control lists, or lets none be set."""

    code = "no_access_lists"


def let(path: str, uid: int, rights: int, *, inherited: bool = False) -> None:
    """Give ``uid`` at least ``rights`` on ``path``; ``inherited`` also on what is made in that directory later.

    Raises NoAccessLists where the file system cannot keep that.
    """
    mode = Path(path).stat().st_mode
    try:
        found = _read(path, _ACCESS)
        if not permits(found, uid, rights):
            os.setxattr(path, _ACCESS, packed(extended(found or of_mode(mode), uid, rights)))
        if inherited:
            default = _read(path, _DEFAULT)
            if not permits(default, uid, rights):
                os.setxattr(path, _DEFAULT, packed(extended(default or of_mode(mode), uid, rights)))
    except OSError as error:
        if error.errno in _WITHOUT:
            raise NoAccessLists(f"{os.strerror(error.errno)}") from error
        raise


def inherits(path: str, uid: int, rights: int) -> bool:
    """Whether ``let`` with ``inherited`` has nothing left to do on ``path``."""
    try:
        return permits(_read(path, _ACCESS), uid, rights) and permits(_read(path, _DEFAULT), uid, rights)
    except OSError:
        return False


def permits(entries: Entries | None, uid: int, rights: int) -> bool:
    """Whether an entry for ``uid`` itself gives ``rights``, what the mask takes away taken away."""
    if entries is None:
        return False
    return entries.get((_USER, uid), 0) & entries.get((_MASK, _NOBODY), 7) & rights == rights


def of_mode(mode: int) -> Entries:
    """The list that says the same as the permission bits of ``mode``."""
    return {
        (_OWNER, _NOBODY): mode >> 6 & 7,
        (_GROUP, _NOBODY): mode >> 3 & 7,
        (_OTHER, _NOBODY): mode & 7,
    }


def extended(entries: Entries, uid: int, rights: int) -> Entries:
    """``entries`` with at least ``rights`` for ``uid``; what all others may in effect stays what it was."""
    mask = entries.get((_MASK, _NOBODY), 7)
    made = {key: permission & mask if key[0] in _MASKED else permission for key, permission in entries.items()}
    made[_USER, uid] = made.get((_USER, uid), 0) | rights
    made[_MASK, _NOBODY] = 0
    for (tag, _), permission in list(made.items()):
        if tag in _MASKED:
            made[_MASK, _NOBODY] |= permission
    return made


def packed(entries: Entries) -> bytes:
    """The value of the attribute."""
    return _HEAD.pack(_VERSION) + b"".join(
        _ENTRY.pack(tag, permission, name) for (tag, name), permission in sorted(entries.items())
    )


def unpacked(value: bytes) -> Entries:
    """What the value of the attribute says."""
    if len(value) < _HEAD.size or _HEAD.unpack_from(value)[0] != _VERSION or (len(value) - _HEAD.size) % _ENTRY.size:
        raise NoAccessLists("an access control list of an unknown form")
    return {(tag, name): permission for tag, permission, name in _ENTRY.iter_unpack(value[_HEAD.size :])}


def _read(path: str, attribute: str) -> Entries | None:
    try:
        value = os.getxattr(path, attribute)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return None
        raise
    return unpacked(value)
