"""An archive that somebody brought, laid out beside a tenant's directory. Nothing in it is believed; it blocks.

Every name is judged before it is made, every file's hash compared with the manifest at the end, and what is not in the
manifest, or is there twice, ends it. What was laid out until then is taken away again.
"""

import gzip
import hashlib
import os
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import ValidationError

from carrel.backup.archive import BELOW, HEADER, MANIFEST, Header, Listed
from carrel.backup.archive_seal import SEAL, Seal, Vouched, vouched
from carrel.backup.names import is_workspace, require_link, require_path
from carrel.backup.seen import Seen
from carrel.backup.staging import RESERVE_BYTES, synced
from carrel.backup.tarball import Member, members
from carrel.errors import InvalidRequest, StorageFull, TooLarge, UnsafePath
from carrel.tenancy.paths import open_beneath
from carrel.tenancy.removal import remove_tree
from carrel.vault.keys import MasterKeys

MOST_ENTRIES: Final = 1_000_000
_MOST_PADDING: Final = 64 << 10
_MOST_HEADER: Final = 64 << 10
_MOST_MANIFEST: Final = 256 << 20
_MOST_LINE: Final = 64 << 10
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class TakenIn:
    """What was laid out. ``digest`` is of all names and contents; ``seal`` says who vouches for them."""

    header: Header
    seal: Vouched = "none"
    files: int = 0
    bytes: int = 0
    sessions: int = 0
    left_out: int = 0
    digest: str = ""
    seen: Seen = field(default_factory=Seen)


@dataclass(frozen=True, slots=True)
class _Room:
    """What the disk has to spare, in bytes and in names."""

    bytes: int
    names: int


def take_in(
    stream: BinaryIO, place: Path, *, going: Callable[[], None], keys: MasterKeys | None = None
) -> TakenIn:  # fmt: skip
    """Lay the archive in ``stream`` out in ``place``, which must not be there; where it fails nothing is left of it.

    ``keys`` are those that its seal may be by. Raises UnsafePath, InvalidRequest, TooLarge, StorageFull.
    """
    room = _room(place.parent)
    try:
        place.mkdir(mode=0o700)
        with synced(place) as top:
            return _lay_out(stream, top, room, going, keys)
    except BaseException:
        remove_tree(place)
        raise


def _lay_out(
    stream: BinaryIO, top: int, room: _Room, going: Callable[[], None], keys: MasterKeys | None
) -> TakenIn:  # fmt: skip
    try:
        return _unpacked(stream, top, room, going, keys)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidRequest(f"It is no whole archive of a tenant: {error}.") from error


def _unpacked(
    stream: BinaryIO, top: int, room: _Room, going: Callable[[], None], keys: MasterKeys | None
) -> TakenIn:  # fmt: skip
    with gzip.GzipFile(mode="rb", fileobj=stream) as unpacked:
        found = members(unpacked)  # type: ignore[arg-type] # it reads, which is enough
        first = next(found, None)
        if first is None or first.path != HEADER:
            raise InvalidRequest("It is no archive of a tenant: its first name is not as an export's is.")
        header = _small(first, _MOST_HEADER)
        done = TakenIn(_header(header))
        for member in found:
            going()
            if member.path == MANIFEST:
                told = _compare(done, top, member)
                after = next(found, None)
                seal = _seal(after) if after is not None else None
                # To the very end: what was cut off or flipped behind it is told by gzip's own sum.
                if next(found, None) is not None or unpacked.read(_MOST_PADDING).strip(b"\0") or unpacked.read(1):
                    raise UnsafePath("Something follows the archive's manifest.")
                done.seal = vouched(keys, seal, hashlib.sha256(header).digest(), told)
                return done
            if not member.path.startswith(BELOW):
                raise UnsafePath(f"{member.path[:200]!r} is not where a tenant's files are in an archive.")
            done.bytes += member.size
            # The only bound on its size: how well it is packed says nothing. One byte over and over is 1,032 times
            # smaller at the most, in a tenant's own export too.
            if done.bytes > room.bytes or len(done.seen) >= room.names:
                raise TooLarge("The archive holds more than the disk of the state directory has to spare.")
            _one(done, top, member)
    raise InvalidRequest("The archive ends without its manifest: it was cut short.")


def _one(done: TakenIn, top: int, member: Member) -> None:
    path = require_path(member.path[len(BELOW) :])
    key = path if is_workspace(path) else unicodedata.normalize("NFC", path).casefold()
    if done.seen.has(key):
        raise UnsafePath(f"{path[:200]!r} is there twice, or only spelt another way.")
    if len(done.seen) >= MOST_ENTRIES:
        raise TooLarge(f"The archive has over {MOST_ENTRIES} names.")
    above, _, name = path.rpartition("/")
    try:
        parent = open_beneath(top, above or ".", os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        raise UnsafePath(f"{path[:200]!r} comes before its directory.") from None
    try:
        if member.directory:
            os.mkdir(name, 0o700, dir_fd=parent)
            os.chmod(name, member.mode | 0o700, dir_fd=parent)
            done.seen.add(key, ("directory", member.mode, ""))
            return
        digest = hashlib.sha256()
        fd = os.open(name, _NEW, 0o600, dir_fd=parent)
        with os.fdopen(fd, "wb") as file:
            for block in member.content:
                digest.update(block)
                if not block[0] and block.count(0) == len(block):
                    # A hole is as it was, and takes no room.
                    file.seek(len(block), os.SEEK_CUR)
                    continue
                file.write(block)
            file.truncate()
            file.flush()
            os.fchmod(fd, member.mode)
            os.utime(fd, (member.mtime, member.mtime))
    finally:
        os.close(parent)
    done.files += 1
    done.sessions += path.startswith(("sessions/", "sessions.d/")) and path.endswith(".jsonl")
    done.seen.add(key, (path, member.size, digest.hexdigest()))


def _compare(done: TakenIn, top: int, member: Member) -> bytes:
    """What the manifest says is what came, no more and no less; the manifest's SHA-256.

    Links are made now, when nothing goes through them any more.
    """
    if member.size > _MOST_MANIFEST:
        raise TooLarge(f"{member.path} of the archive has {member.size} bytes; {_MOST_MANIFEST} are the most.")
    whole, told = hashlib.sha256(), hashlib.sha256()
    links = 0
    for line in _lines(member.content, told.update):
        listed = _listed(line)
        if listed.kind == "left_out":
            done.left_out += 1
            continue
        path = require_path(listed.path)
        whole.update(listed.model_dump_json().encode() + b"\n")
        if listed.kind == "link":
            links += 1
            if len(done.seen) + links > MOST_ENTRIES:
                raise TooLarge(f"The archive has over {MOST_ENTRIES} names.")
            _link(top, path, require_link(path, listed.target))
            continue
        key = path if is_workspace(path) else unicodedata.normalize("NFC", path).casefold()
        expected = ("directory", listed.mode, "") if listed.kind == "directory" else (path, listed.size, listed.sha256)
        if not done.seen.take(key, expected):
            raise UnsafePath(f"{path[:200]!r} is not as the archive's manifest has it: it was changed on its way.")
    if done.seen.left:
        raise UnsafePath(f"{done.seen.left} of its names are not in the archive's manifest.")
    done.digest = whole.hexdigest()
    return told.digest()


def _lines(content: Iterable[bytes], told: Callable[[bytes], None]) -> Iterator[bytes]:
    """The lines of ``content``, each piece of which is ``told``; raises UnsafePath for one that is too long."""
    rest = b""
    for piece in content:
        told(piece)
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > _MOST_LINE:
            raise UnsafePath(f"A line of the archive's {MANIFEST} is longer than {_MOST_LINE} bytes.")
    if rest:
        yield rest


def _link(top: int, path: str, target: str) -> None:
    above, _, name = path.rpartition("/")
    try:
        parent = open_beneath(top, above or ".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        raise UnsafePath(f"{path[:200]!r} is a link in no directory of the archive.") from None
    try:
        os.symlink(target, name, dir_fd=parent)
    except FileExistsError:
        raise UnsafePath(f"{path[:200]!r} is there twice.") from None
    finally:
        os.close(parent)


def _seal(member: Member) -> Seal:
    if member.path != SEAL:
        raise UnsafePath("Something follows the archive's manifest.")
    try:
        return Seal.model_validate_json(_small(member, _MOST_HEADER))
    except ValidationError:
        raise InvalidRequest(f"The archive's {SEAL} is not as it should be: a newer Carrel made it?") from None


def _header(data: bytes) -> Header:
    try:
        return Header.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(
            f"The archive's {HEADER} is not as it should be: {first['loc']}: {first['msg']}. A newer Carrel made it?"
        ) from None


def _listed(line: bytes) -> Listed:
    try:
        return Listed.model_validate_json(line)
    except ValidationError:
        raise InvalidRequest(f"A line of the archive's {MANIFEST} is not as it should be.") from None


def _small(member: Member, limit: int) -> bytes:
    if member.size > limit:
        raise TooLarge(f"{member.path} of the archive has {member.size} bytes; {limit} are the most.")
    return b"".join(member.content)


def _room(place: Path) -> _Room:
    found = os.statvfs(place)
    free = found.f_bavail * found.f_frsize - RESERVE_BYTES
    if free <= 0:
        raise StorageFull("The disk of the state directory has nothing to spare: nothing was changed.")
    # Some file systems make room for names as they need it, and say that there is none.
    return _Room(free, found.f_favail // 2 if found.f_files else MOST_ENTRIES + 1)
