"""Judges names that come out of a backup, whoever wrote it: no name of it may reach anything but its own tenant."""

import os
from typing import Final

from carrel.backup.catalogue import Entry
from carrel.backup.contents import NOT_KEPT
from carrel.errors import UnsafePath
from carrel.tenancy.paths import clean

MOST_DEPTH: Final = 200
WORKSPACES: Final = frozenset({"sandbox", "sandbox.d"})
"""Where strangers' commands write: links may be there, and nowhere else."""
_INSIDE: Final = "/workspace"


def require_path(path: str) -> str:
    """``path`` where it is relative, plain and not too deep; raises UnsafePath."""
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise UnsafePath(f"{path[:200]!r} is no plain path beneath the tenant's directory.")
    if len(parts) > MOST_DEPTH:
        raise UnsafePath("A path of the backup is too deep.")
    if parts[0] in NOT_KEPT or parts[0].startswith("."):
        raise UnsafePath(f"{path[:200]!r} is nothing that a backup holds.")
    if any(0x80 <= ord(letter) < 0xA0 for letter in path):
        raise UnsafePath("A path of the backup has a control character in it.")
    return clean(path)


def require_link(path: str, target: str) -> str:
    """``target`` where a link at ``path`` stays in its workspace; raises UnsafePath."""
    parts = path.split("/")
    depth = 2 if parts[0] == "sandbox.d" else 1
    if parts[0] not in WORKSPACES or len(parts) <= depth:
        raise UnsafePath(f"{path[:200]!r} is a link, and those are in workspaces alone.")
    if not target or len(os.fsencode(target)) > 4095:
        raise UnsafePath(f"The link {path[:200]!r} leads nowhere.")
    clean(target)
    if target.startswith("/"):
        if target != _INSIDE and not target.startswith(_INSIDE + "/"):
            raise UnsafePath(f"The link {path[:200]!r} leads out of its workspace.")
        level, rest = 0, target[len(_INSIDE) :].split("/")
    else:
        level, rest = len(parts) - 1 - depth, target.split("/")
    for part in rest:
        level += -1 if part == ".." else 0 if part in ("", ".") else 1
        if level < 0:
            raise UnsafePath(f"The link {path[:200]!r} leads out of its workspace.")
    return target


def is_workspace(path: str) -> bool:
    """Whether ``path`` is in a place that strangers' commands write to."""
    return path.partition("/")[0] in WORKSPACES


def is_database(path: str) -> bool:
    """Whether ``path`` is a database of the gateway's own."""
    return not is_workspace(path) and path.endswith(".sqlite")


def is_database_side(path: str) -> bool:
    """Whether ``path`` only goes with a database: its content is in the copy."""
    return not is_workspace(path) and path.endswith((".sqlite-wal", ".sqlite-shm", ".sqlite-journal"))


def is_lines(path: str) -> bool:
    """Whether ``path`` is a file of the gateway's own that only grows by lines."""
    return not is_workspace(path) and path.endswith((".jsonl", ".log", ".cast"))


def require_entry(entry: Entry) -> Entry:
    """``entry`` where nothing of it is out of place; raises UnsafePath."""
    require_path(entry.path)
    if entry.kind == "link":
        require_link(entry.path, entry.target)
    if entry.kind == "file" and sum(part.length for part in entry.parts) != entry.size:
        raise UnsafePath(f"{entry.path[:200]!r} is not as large as it says.")
    if not is_workspace(entry.path) and any(not part.piece for part in entry.parts):
        raise UnsafePath(f"{entry.path[:200]!r} has holes, and those are in workspaces alone.")
    if entry.kind != "file" and (entry.parts or entry.size):
        raise UnsafePath(f"{entry.path[:200]!r} has a content and is no file.")
    return entry
