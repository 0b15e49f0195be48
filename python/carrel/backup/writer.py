"""From names and content to pieces and an index. What is there already is not sent again.

A file of some size is cut into blocks of its own; small files are put together in bundles, which end after some paths
and not after others, so that one that changes moves no other. Both, and the index, are pieces named by their content.
"""

import hashlib
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from carrel.backup.catalogue import Block, Entry, Hole, Part
from carrel.backup.gather import BLOCK, Found, Gathering, LeftOut, read
from carrel.backup.progress import Progress
from carrel.backup.repository import Repository
from carrel.errors import UnsafePath

SMALL: Final = 128 << 10
BUNDLE: Final = 1 << 20
INDEX: Final = 256 << 10
MOST_PARTS: Final = 100_000
"""What of one file's pieces a line of the index can name."""
LARGE: Final = 64 << 30
LARGE_BLOCK: Final = 8 << 20
"""Files over so many bytes are cut into blocks of this size, so that a line can name those of up to 800 GB."""
SENDERS: Final = 4
_IN_FLIGHT: Final = 8
_WAITING: Final = 2000


@dataclass(slots=True)
class Written:
    """What came of it. ``index`` names the pieces of the index; ``sent`` is in bytes."""

    index: list[str] = field(default_factory=list)
    entries: int = 0
    files: int = 0
    bytes: int = 0
    holes: int = 0
    sent: int = 0


@dataclass(slots=True)
class _Draft:
    """An entry on its way; its place in a bundle comes later."""

    entry: Entry
    waits: bool = False


class Pieces:
    """Sends pieces that are not there, some at a time, and bounds how many are in memory.

    ``there`` are the names that the store lists. A name alone says nothing of what is under it: only what the last
    backup names is relied on, which was whole when it entered the list. ``named`` gives those names, asked once at the
    most; what else is there, of a backup that broke off, is read back before it is relied on.
    """

    def __init__(
        self, repository: Repository, there: set[str], progress: Progress, *, named: Callable[[], Iterable[str]] = tuple
    ) -> None:
        self._repository = repository
        self._unsure = there
        self._sure: set[str] = set()
        self._named: Callable[[], Iterable[str]] | None = named
        self._progress = progress
        self._pool = ThreadPoolExecutor(SENDERS, thread_name_prefix="carrel-backup")
        self._flying: deque[tuple[Future[int], int]] = deque()
        self.sent = 0

    def has(self, name: str) -> bool:
        """Whether one that the last backup names is there; a hole needs none."""
        return not name or name in self._sure

    def vouch(self, names: Iterable[str]) -> None:
        """The last backup names these: what of them is there is relied on."""
        for name in names:
            if name in self._unsure:
                self._unsure.discard(name)
                self._sure.add(name)

    def put(self, content: bytes) -> str:
        """The name of a piece with ``content``, which is sent where it is not there. Raises what sending others did."""
        name = self._repository.name(content)
        if name in self._unsure and self._named is not None:
            # Content that moved: its piece is named by another path's entry, perhaps one that is still to come.
            named, self._named = self._named, None
            self.vouch(named())
        if name not in self._sure:
            while len(self._flying) >= _IN_FLIGHT:
                self._land()
            send = self._repository.keep_piece if name in self._unsure else self._repository.put_piece
            self._unsure.discard(name)
            self._sure.add(name)
            self._flying.append((self._pool.submit(send, name, content), len(content)))
            self._progress.flying += len(content)
        return name

    def finish(self) -> None:
        """Wait until all is there."""
        while self._flying:
            self._land()

    def close(self) -> None:
        """End the threads; what did not begin is not sent."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _land(self) -> None:
        sending, size = self._flying.popleft()
        count = sending.result()
        self._progress.flying -= size
        self.sent += count
        self._progress.moved += count


class Writer:
    """Writes one backup's pieces of ``walk``. ``previous`` gives the last one's entries: unchanged files are taken."""

    def __init__(
        self, pieces: Pieces, walk: Gathering, *, previous: Iterator[Entry], temporary: Path, left_out: LeftOut,
        progress: Progress,
    ) -> None:  # fmt: skip
        self._walk = walk
        self._pieces = pieces
        self._previous = previous
        self._before: Entry | None = self._next()
        self._temporary = temporary
        self._left_out = left_out
        self._progress = progress
        self._written = Written()
        self._waiting: deque[_Draft] = deque()
        self._bundle = bytearray()
        self._members: list[tuple[_Draft, int, int]] = []
        self._lines = bytearray()

    def run(self) -> Written:
        """Take all of the walk; returns when every piece is in the store."""
        for found in self._walk:
            self._take(found)
        self._close_bundle()
        self._drain()
        self._close_index()
        self._pieces.finish()
        self._written.sent = self._pieces.sent
        return self._written

    def _take(self, found: Found) -> None:
        entry = Entry(path=found.path, kind="link" if found.kind == "link" else "directory", mode=found.mode,
                      mtime=found.mtime, target=found.target)  # fmt: skip
        if found.kind != "file":
            self._add(_Draft(entry))
            return
        before = self._last_time(entry)
        if before is not None and before.seen == found.seen and all(self._pieces.has(p.piece) for p in before.parts):
            self._add(_Draft(before.model_copy(update={"mode": found.mode, "mtime": found.mtime})))
            self._progress.done += found.size
        else:
            self._read(found)
        self._progress.files += 1

    def _last_time(self, entry: Entry) -> Entry | None:
        order = entry.order
        while self._before is not None and self._before.order < order:
            self._before = self._next()
        same = self._before is not None and self._before.path == entry.path and self._before.kind == "file"
        return self._before if same else None

    def _next(self) -> Entry | None:
        entry = next(self._previous, None)
        if entry is not None:
            self._pieces.vouch(part.piece for part in entry.parts)
        return entry

    def _read(self, found: Found) -> None:
        content = _Content(self._pieces.put, BLOCK if found.size <= LARGE else LARGE_BLOCK)
        begun = self._progress.done

        def restart() -> None:
            content.restart()
            self._progress.done = begun

        try:
            for block in read(
                found, temporary=self._temporary, restart=restart,
                damage=lambda why: self._walk.damage(found.path, why),
            ):  # fmt: skip
                content.add(block)
                self._progress.done += block.length if isinstance(block, Hole) else len(block)
        except FileNotFoundError:
            return
        except (UnsafePath, PermissionError) as error:
            self._left_out(found.path, error.message if isinstance(error, UnsafePath) else "It cannot be read.")
            return
        except OSError as error:
            self._walk.unreadable(found.path, error)
            return
        # What is damaged is read anew the next time, whether it changed or not, and told again.
        seen = () if found.path in self._walk.damaged else found.seen
        rest, parts = content.rest, tuple(content.parts)
        draft = _Draft(
            Entry(path=found.path, kind="file", mode=found.mode, mtime=found.mtime, size=content.size,
                  sha256=content.digest.hexdigest(), parts=parts, seen=seen)
        )  # fmt: skip
        if rest:
            self._bundled(draft, rest)
        self._add(draft)
        if zlib.crc32(found.path.encode()) % 64 == 0:
            self._close_bundle()

    def _bundled(self, draft: _Draft, rest: bytes) -> None:
        if len(self._bundle) + len(rest) > BUNDLE:
            self._close_bundle()
        draft.waits = True
        self._members.append((draft, len(self._bundle), len(rest)))
        self._bundle += rest

    def _close_bundle(self) -> None:
        if not self._members:
            return
        name = self._pieces.put(bytes(self._bundle))
        for draft, offset, length in self._members:
            part = Part(piece=name, offset=offset, length=length)
            draft.entry = draft.entry.model_copy(update={"parts": (*draft.entry.parts, part)})
            draft.waits = False
        self._members, self._bundle = [], bytearray()

    def _add(self, draft: _Draft) -> None:
        self._waiting.append(draft)
        if len(self._waiting) > _WAITING:
            self._close_bundle()
        self._drain()

    def _drain(self) -> None:
        """Write down, in order, the entries that are complete."""
        while self._waiting and not self._waiting[0].waits:
            entry = self._waiting.popleft().entry
            self._lines += entry.model_dump_json(exclude_defaults=True).encode() + b"\n"
            self._written.entries += 1
            if entry.kind == "file":
                self._written.files += 1
                self._written.bytes += entry.size
                self._written.holes += sum(part.length for part in entry.parts if not part.piece)
            ends = len(self._lines) >= INDEX // 8 and zlib.crc32(entry.path.encode()) % 256 == 0
            if ends or len(self._lines) >= INDEX:
                self._close_index()

    def _close_index(self) -> None:
        if self._lines:
            self._written.index.append(self._pieces.put(bytes(self._lines)))
            self._lines = bytearray()


class _Content:
    """One file's content: whole blocks are pieces of their own, and so is a large rest; a small one is left over."""

    def __init__(self, put: Callable[[bytes], str], most: int) -> None:
        self._put = put
        self._most = most
        self.restart()

    def restart(self) -> None:
        """Forget what was read."""
        self.digest = hashlib.sha256()
        self.size = 0
        self.parts: list[Part] = []
        self._block = bytearray()

    def add(self, data: Block) -> None:
        """Take the next bytes, or a hole."""
        if isinstance(data, Hole):
            if self._block:
                self._piece(bytes(self._block))
                self._block.clear()
            self.parts.append(Part(length=data.length))
            self.size += data.length
            return
        self.digest.update(data)
        self.size += len(data)
        self._block += data
        while len(self._block) >= self._most:
            self._piece(bytes(self._block[: self._most]))
            del self._block[: self._most]

    @property
    def rest(self) -> bytes:
        """What is too small for a piece of its own, empty where nothing is left. Ask once, at the end."""
        if len(self._block) > SMALL:
            self._piece(bytes(self._block))
            return b""
        return bytes(self._block)

    def _piece(self, content: bytes) -> None:
        if len(self.parts) >= MOST_PARTS:
            raise UnsafePath(
                f"It has over {MOST_PARTS} pieces, which is the most that a backup holds of one file: it is larger "
                "than 800 GB, or its holes are many."
            )
        self.parts.append(Part(piece=self._put(content), offset=0, length=len(content)))
