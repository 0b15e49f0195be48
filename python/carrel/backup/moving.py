"""A tenant carried out as one file, and one taken in: what goes in, and what becomes of what was there. It blocks."""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final

import apsw
import structlog

from carrel import __version__
from carrel.backup.archive import Header, Out, Writer
from carrel.backup.catalogue import Block
from carrel.backup.gather import BLOCK, Found, Gathering, read
from carrel.backup.intake import TakenIn, take_in
from carrel.backup.progress import Progress
from carrel.backup.staging import Room, told
from carrel.backup.swap import staged
from carrel.errors import UnsafePath
from carrel.ids import TenantId
from carrel.tenancy.paths import TenantRoot
from carrel.vault.keys import MasterKeys

_log = structlog.get_logger(__name__)
NOTE: Final = "imported.json"
"""In a tenant's directory: which archive it came from, so that the same one again changes nothing."""
MOST_HOLES: Final = 256 << 20
"""Of a file with more of it in holes an archive has only the name."""
_MADE: Final = (
    "sessions", "sessions.d", "sandbox", "sandbox.d", "agents", "plugins", "channels", "credentials/vault"
)  # fmt: skip
"""Where a tenant that ever did anything has something."""
_ROWS: Final = (
    ("memory/memory.sqlite", "SELECT 1 FROM notes LIMIT 1"),
    ("cron/cron.sqlite", "SELECT 1 FROM jobs WHERE id NOT GLOB 'declared-*' LIMIT 1"),
)
"""Databases that are made at a mere look, and what is in them of the tenant's own."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What went into an archive."""

    files: int
    bytes: int
    left_out: int


def export(
    tenant: TenantId, root: TenantRoot, out: Out, *, at: datetime, temporary: Path, going: Callable[[], None],
    keys: MasterKeys | None = None, progress: Progress | None = None,
) -> Exported:  # fmt: skip
    """Write a tenant's archive to ``out``, consistent as a backup is, while the tenant works; sealed with ``keys``.

    Raises StorageFull before the disk of ``temporary`` is, where what the archive is made of passes through.
    """
    left_out = 0
    header = Header(tenant=tenant, at=at, carrel=__version__)
    at_hand, room = progress or Progress(), Room(temporary)

    def packed(more: int) -> None:
        at_hand.done += more
        room.spend(more)

    def left(path: str, why: str) -> None:
        nonlocal left_out
        left_out += 1
        # At once, for there may be a million.
        writer.left_out(path, why)

    walk = Gathering(root.fd, owner=root.owner, left_out=left, going=going)
    at_hand.phase = "counting"
    at_hand.begin("copying", walk.total())
    writer = Writer(out, header, temporary=temporary, keys=keys, counts=packed)
    try:
        for found in walk:
            if found.path == NOTE:
                continue
            _add(writer, found, walk, left, room)
            at_hand.files = writer.files
        writer.close()
    except BaseException:
        writer.abandon()
        raise
    for path, why in walk.damaged.items():
        _log.error("damaged, and exported as it is", tenant=tenant, path=path, reason=why)
    return Exported(writer.files, writer.bytes, left_out)


def _add(
    writer: Writer, found: Found, walk: Gathering, left: Callable[[str, str], None], room: Room
) -> None:  # fmt: skip
    seconds = found.mtime // 1_000_000_000
    match found.kind:
        case "directory":
            writer.directory(found.path, mode=found.mode, mtime=seconds)
        case "link":
            writer.link(found.path, found.target)
        case _:

            def content(restart: Callable[[], None]) -> Iterator[bytes]:
                for block in read(
                    found, temporary=room.place, restart=restart,
                    damage=lambda why: walk.damage(found.path, why),
                ):  # fmt: skip
                    room.spend(len(block) if isinstance(block, bytes) else block.length)
                    yield from _filled(block)

            try:
                if found.size > MOST_HOLES and _room_of(found) < found.size - MOST_HOLES:
                    raise UnsafePath("It is mostly holes, which an archive would have to fill.")
                writer.file(found.path, content, mode=found.mode, mtime=seconds)
            except FileNotFoundError:
                return
            except UnsafePath as error:
                left(found.path, error.message)
            except OSError as error:
                walk.unreadable(found.path, error)


def _room_of(found: Found) -> int:
    """The bytes that a file takes on the disk."""
    return os.stat(found.name, dir_fd=found.directory, follow_symlinks=False).st_blocks * 512


def _filled(block: Block) -> Iterator[bytes]:
    if isinstance(block, bytes):
        yield block
        return
    whole, rest = divmod(block.length, BLOCK)
    yield from itertools.repeat(bytes(BLOCK), whole)
    yield bytes(rest)


def unpacked(
    stream: BinaryIO, home: Path, target: TenantId, *, going: Callable[[], None], keys: MasterKeys | None = None
) -> TakenIn:  # fmt: skip
    """Lay an archive out beside ``target``'s directory, with a note of which it is."""
    place = staged(home, target)
    done = take_in(stream, place, going=going, keys=keys)
    note = {"source": done.header.source, "tenant": done.header.tenant, "digest": mark(done)}
    with told():
        # What the archive has under that name is of where it was.
        (place / NOTE).unlink(missing_ok=True)
        (place / NOTE).write_text(json.dumps(note) + "\n", encoding="utf-8")
    return done


def mark(done: TakenIn) -> str:
    """What tells one archive from another: its source's digest, or that of all that is in it."""
    return done.header.digest or done.digest


def came_from(live: Path) -> str | None:
    """The mark of the archive that a tenant's directory came from, None where it came from none."""
    try:
        return str(json.loads((live / NOTE).read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def has_made_anything(live: Path) -> bool:
    """Whether the tenant has anything of its own, from sessions to secrets; tokens and bills do not count."""
    return (
        (live / "config.yaml").is_file()
        or any(
            (live / name).is_dir() and any(path.is_file() or path.is_symlink() for path in (live / name).rglob("*"))
            for name in _MADE
        )
        or any(_has_rows(live / name, query) for name, query in _ROWS)
    )


def _has_rows(database: Path, query: str) -> bool:
    """Whether there are some; where that cannot be told there are."""
    if not database.is_file():
        return False
    try:
        connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            return connection.execute(query).fetchone() is not None
        finally:
            connection.close()
    except apsw.Error:
        return True
