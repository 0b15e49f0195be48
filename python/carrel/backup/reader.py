"""Reads a backup back: entries with their content, every piece opened and every file's hash compared."""

import hashlib
import itertools
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from carrel.backup.catalogue import Block, Entry, Hole, Manifest, Part
from carrel.backup.progress import Progress
from carrel.backup.repository import Repository
from carrel.errors import CarrelError
from carrel.objects.protocol import ObjectDamaged, ObjectMissing

READERS: Final = 4
_AHEAD: Final = 8
_KEPT: Final = 8


class Reader:
    """Fetches pieces ahead of their use, a few at a time. Use it as `reading` gives it."""

    def __init__(self, repository: Repository, pool: ThreadPoolExecutor, progress: Progress) -> None:
        self._repository = repository
        self._pool = pool
        self._progress = progress
        self._pieces: OrderedDict[str, Future[bytes]] = OrderedDict()

    def contents(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Iterator[Block]]]:
        """Each entry with its content, which is to be taken to its end before the next. Raises ObjectDamaged."""
        ahead: deque[Entry] = deque()
        coming = iter(entries)
        fetched = 0
        while True:
            while fetched < _AHEAD and (entry := next(coming, None)) is not None:
                for part in itertools.islice(entry.parts, _AHEAD):
                    self._expect(part)
                fetched += min(len(entry.parts), _AHEAD)
                ahead.append(entry)
                if not entry.parts:
                    break
            if not ahead:
                return
            entry = ahead.popleft()
            fetched -= min(len(entry.parts), _AHEAD)
            yield entry, self._content(entry)

    def _content(self, entry: Entry) -> Iterator[Block]:
        digest, size = hashlib.sha256(), 0
        for at, part in enumerate(entry.parts):
            for later in entry.parts[at : at + _AHEAD]:
                self._expect(later)
            if not part.piece:
                size += part.length
                self._progress.done += part.length
                yield Hole(part.length)
                continue
            data = self._part(part)
            digest.update(data)
            size += len(data)
            self._progress.done += len(data)
            yield data
        if entry.kind == "file":
            self._progress.files += 1
            if size != entry.size or digest.hexdigest() != entry.sha256:
                raise ObjectDamaged(f"{entry.path[:200]!r} is not what was backed up: its hash is another one.")

    def _part(self, part: Part) -> bytes:
        piece = self._want(part.piece).result()
        data = piece[part.offset : part.offset + part.length]
        if len(data) != part.length:
            raise ObjectDamaged(f"The piece {part.piece} is shorter than the backup says.")
        return data

    def _expect(self, part: Part) -> None:
        if part.piece:
            self._want(part.piece)

    def _want(self, name: str) -> Future[bytes]:
        known = self._pieces.get(name)
        if known is not None:
            self._pieces.move_to_end(name)
            return known
        while len(self._pieces) >= _AHEAD + _KEPT:
            self._pieces.popitem(last=False)[1].cancel()
        future = self._pieces[name] = self._pool.submit(self._fetched, name)
        return future

    def _fetched(self, name: str) -> bytes:
        content = self._repository.piece(name)
        self._progress.moved += len(content)
        return content


@contextmanager
def reading(repository: Repository, progress: Progress) -> Iterator[Reader]:
    """A reader, whose threads end with the block."""
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="carrel-restore")
    try:
        yield Reader(repository, pool, progress)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def counted(repository: Repository, manifest: Manifest) -> Iterator[Entry]:
    """The entries; raises ObjectDamaged where they are more, fewer or larger than the manifest says."""
    entries, size, holes = 0, 0, 0
    for entry in repository.entries(manifest):
        entries += 1
        size += entry.size
        holes += sum(part.length for part in entry.parts if not part.piece)
        if entries > manifest.entries or size > manifest.bytes:
            raise ObjectDamaged("The backup holds more than its manifest says.")
        yield entry
    if (entries, size, holes) != (manifest.entries, manifest.bytes, manifest.holes):
        raise ObjectDamaged("The backup holds less than its manifest says.")


def verify(repository: Repository, backup_id: str, progress: Progress) -> list[str]:
    """Read a whole backup back; a sentence for each thing that is wrong with it, none where all is well.

    Raises what the store raises.
    """
    try:
        manifest = repository.manifest(backup_id)
    except (ObjectDamaged, ObjectMissing) as error:
        return [error.message]
    progress.phase, progress.total, progress.done = "reading", manifest.bytes, 0
    problems: list[str] = []
    try:
        with reading(repository, progress) as reader:
            for entry, content in reader.contents(counted(repository, manifest)):
                try:
                    deque(content, maxlen=0)
                except (ObjectDamaged, ObjectMissing) as error:
                    problems.append(f"{entry.path}: {error.message}")
    except (ObjectDamaged, ObjectMissing) as error:
        problems.append(error.message)
    except CarrelError as error:
        if error.code != "unsafe_path":
            raise
        problems.append(error.message)
    progress.phase = "done"
    return problems
