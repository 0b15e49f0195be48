"""The append-only record of every change of state: one JSONL file a UTC day, hash-chained, synced before it counts.

``audit/YYYY-MM-DD.jsonl`` hold the lines; ``audit/heads.jsonl`` a signed end for each day that is over, and
``audit/head.json`` the signed end of all of it. The mark is the same end in a place of its own, so that a record that
was cut short together with its end is found too. What is begun and has no line yet is in a file of its own
(`audit.begun`). The record is the gateway's own: no tenant's code can reach it.
"""

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from carrel.audit.begun import Begun, Members
from carrel.audit.chain import GENESIS, Finding, Head, sealed
from carrel.audit.files import append_synced, appended, backwards, cut_off, days
from carrel.audit.heads import SignedHead, Signer, public_pem
from carrel.audit.keys import open_signer, publish
from carrel.audit.reading import page
from carrel.audit.together import Together, in_thread, over
from carrel.audit.verify import END, HEADS, TOGETHER, verify_directory
from carrel.clock import Clock
from carrel.durability import make_directory, replace_synced
from carrel.errors import CarrelError, StorageFailed, StorageFull, lacking
from carrel.tasks import Tasks
from carrel.wire.control import AuditEnds, AuditPage, AuditQuery, SignedEnd

_log = structlog.get_logger(__name__)
MARK: Final = "audit-mark.json"
UNKNOWN: Final = "unknown"
AGAIN_SECONDS: Final = 1.0
"""After how long lines that are owed are tried again."""


class Audit:
    """Writes and reads the record. Each call returns when its line is synced; those at one time go together.

    ``mark`` is a file for the mark besides the state directory's; ``credentials_dir`` and ``secrets_dir`` are where a
    signing key may be that is not the gateway's own.
    """

    def __init__(
        self, *, state_dir: Path, clock: Clock, credentials_dir: Path | None = None, secrets_dir: Path | None = None,
        mark: Path | None = None,
    ) -> None:  # fmt: skip
        self._state = state_dir
        self._path = state_dir / "audit"
        self._marks = (state_dir / MARK, *((mark,) if mark is not None else ()))
        self._given = (credentials_dir, secrets_dir)
        self._clock = clock
        self._head = Head()
        self._last_day = ""
        self._doubtful = False
        self._signer: Signer | None = None
        self._published = False
        self._begun = Begun(self._path)
        self._moment = datetime.min.replace(tzinfo=UTC)
        self._owed: list[Members] = []
        self._tasks = Tasks("audit")
        self._closed = False
        self._lock = asyncio.Lock()
        self._lines = Together(self._append, most=TOGETHER, lock=self._lock)
        self._ends = Together(self._append_ends, most=TOGETHER, lock=self._lock)
        self._beginnings = Together(self._begin, most=TOGETHER, lock=self._lock)

    async def start(self) -> None:
        """Find the end of the chain, and the key; raises SigningKeyUnusable.

        A torn last line, which was never acknowledged, is cut off, and that is noted; so is a line behind the signed
        end, which a dying gateway wrote, or another hand, and a key that was made now. What cannot be written yet (a
        full disk) is owed: the start goes on, and no change begins before it is there.
        """
        await self._in_turn(self._open_and_settle)
        self._pay_later()

    async def close(self) -> None:
        """Write what is owed, where the disk takes it; what is begun then is kept for the next start."""
        self._closed = True
        await self._tasks.close()
        await self._in_turn(self._settle)
        if self._owed:
            _log.error("changes were made whose lines the next start writes", count=len(self._owed))

    @asynccontextmanager
    async def change(
        self, *, actor: str, action: str, target: str, request_id: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> AsyncIterator[None]:  # fmt: skip
        """Make a change within it, which has one line with its outcome once it leaves, in any case.

        Raises StorageFull before it enters where no line could be kept; then nothing is to be changed. No failure of
        the record's is raised once it was entered: a line that the disk refuses is owed, covered by the beginning that
        is there, and comes before any later change. A CarrelError's code is the outcome of a change that failed. What a
        death, a cancellation, a failing disk or a fault of ours cuts short is `unknown`; what was cancelled before it
        began is `failed: cancelled`.
        """
        members = {
            "begun": self._now(), "actor": actor, "action": action, "target": target, "tenant": tenant,
            "request_id": request_id, "before": before, "after": after,
        }  # fmt: skip
        try:
            await self._beginnings.add(members)
        except asyncio.CancelledError:
            if self._begun.is_open(str(members["begun"])):
                # It was written down and never made: `unknown` would send somebody to look for what it did.
                await self._ended(members, "failed: cancelled")
            raise
        try:
            yield
        except BaseException as error:
            await self._ended(members, _outcome(error))
            raise
        await self._ended(members, "ok")

    async def record(
        self,
        *,
        actor: str,
        action: str,
        target: str,
        request_id: str,
        outcome: str,
        tenant: str | None = None,
        before: object = None,
        after: object = None,
    ) -> None:
        """Add the line of what is no change that may fail; raises StorageFailed where it cannot be kept."""
        members = {
            "actor": actor, "action": action, "target": target, "tenant": tenant, "request_id": request_id,
            "before": before, "after": after, "outcome": outcome,
        }  # fmt: skip
        await self._lines.add(members)

    async def page(self, query: AuditQuery) -> AuditPage:
        """Lines that ``query`` asks for; raises InvalidRequest, and CarrelError where a file cannot be read."""
        try:
            return await asyncio.to_thread(page, self._path, query)
        except OSError as error:
            name = Path(error.filename or self._path).name
            raise lacking(error, "nothing was read") or CarrelError(
                f"audit/{name} cannot be read by the gateway: {error.strerror}."
            ) from error

    async def ends(self) -> AuditEnds:
        """How far the record goes, signed, the ends of the days before, and the key that signs."""
        async with self._lock:
            return await asyncio.to_thread(self._all_ends)

    async def verify(self) -> list[Finding]:
        """Walk the whole chain; an empty list is a record with nothing edited, removed, moved or cut."""
        async with self._lock:
            return await asyncio.to_thread(self._verify)

    @property
    def _key(self) -> Signer:
        """Blocks at its first use."""
        if self._signer is None:
            raise CarrelError("The record was not opened yet: the gateway is still starting.")
        if not self._published:
            publish(self._state, self._signer)
            self._published = True
        return self._signer

    def _verify(self) -> list[Finding]:
        return verify_directory(self._path, {self._key.id: self._key.public}, self._marks)

    def _all_ends(self) -> AuditEnds:
        try:
            lines = (self._path / HEADS).read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        signed = [one for one in map(SignedHead.parse, lines) if one is not None]
        end = self._key.sign(self._last_day, self._head) if self._last_day else None
        return AuditEnds(
            key=self._key.id, public_key=public_pem(self._key.public), end=_told(end) if end else None,
            days=tuple(map(_told, signed)),
        )  # fmt: skip

    async def _ended(self, members: Members, outcome: str) -> None:
        """Write the line of a change that is over, or owe it. Who is cancelled goes once that is done."""
        try:
            await over(asyncio.ensure_future(self._ends.add({**members, "outcome": outcome})))
        finally:
            self._pay_later()

    async def _in_turn(self, work: Callable[[], None]) -> None:
        async with self._lock:
            await in_thread(work)

    def _pay_later(self) -> None:
        if self._owed and not len(self._tasks) and not self._closed:
            self._tasks.start(self._pay(), name="owed lines")

    async def _pay(self) -> None:
        while self._owed:
            await self._clock.sleep(AGAIN_SECONDS)
            await self._in_turn(self._settle)
        _log.info("all changes that were made have their lines")

    def _now(self) -> str:
        """The moment, which no other call is told."""
        self._moment = max(self._clock.now(), self._moment + timedelta(microseconds=1))
        return self._moment.isoformat(timespec="microseconds")

    def _begin(self, changes: Sequence[Members]) -> None:
        try:
            self._append_owed()
            for mark in self._marks:
                if not os.access(mark.parent, os.W_OK | os.X_OK):
                    number = errno.EACCES if mark.parent.is_dir() else errno.ENOENT
                    raise OSError(number, os.strerror(number), str(mark))
            self._begun.add([{**one, "number": self._head.number} for one in changes])
        except OSError as error:
            raise _public(error) from error

    def _append(self, lines: Sequence[Members]) -> None:
        """Add all of ``lines`` or none."""
        try:
            self._append_owed()
            self._append_to_the_end(lines)
        except OSError as error:
            # What could not be taken away either stands, and the next line comes after it.
            self._doubtful = True
            raise _public(error) from error

    def _append_ends(self, lines: Sequence[Members]) -> None:
        """The lines of changes that are over: what cannot be added now is owed, and comes before all that is later.

        Nothing is raised: that a change was made is on the disk with its beginning, and who is told of a failure would
        make it again.
        """
        self._owed += lines
        try:
            self._append_owed()
        except OSError as error:
            _log.error("lines of the audit log cannot be written yet", count=len(self._owed), reason=error.strerror)

    def _settle(self) -> None:
        """Write what is owed, where that can be, and forget beginnings where none is open."""
        with suppress(OSError):
            self._append_owed()
            self._begun.clear()

    def _append_owed(self) -> None:
        while True:
            if self._doubtful:
                self._resolve()
            lines = self._owed[:TOGETHER]
            if not lines:
                return
            try:
                self._append_to_the_end(lines)
            except OSError as error:
                self._doubtful = True
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._begun.make_room():
                    raise
            else:
                del self._owed[: len(lines)]
                self._begun.ended(lines)

    def _resolve(self) -> None:
        """Find which lines stand, after a write that failed: what could not be taken away again is not owed."""
        before = self._head
        self._find_end()
        if self._head.number < before.number:
            self._head = before
        owed = self._begun.without_line(self._owed, after=before.number)
        still = {str(one.get("begun")) for one in owed}
        self._begun.ended([one for one in self._owed if str(one.get("begun")) not in still])
        self._owed[:] = owed
        self._doubtful = False

    def _append_to_the_end(self, lines: Sequence[Members]) -> None:
        now = self._clock.now()
        day = max(f"{now:%Y-%m-%d}", self._last_day)
        data, head = b"", self._head
        for members in lines:
            line, head = sealed(head, {"time": now.isoformat(timespec="milliseconds"), **members})
            data += line
        file = self._path / f"{day}.jsonl"
        if self._last_day and day != self._last_day:
            self._end_day(self._last_day)
        try:
            with appended(file, data):
                self._keep_end(day, head)
        except OSError:
            # The end may be there already whose lines were taken away again: a start would tell them as cut off.
            with suppress(OSError):
                if self._last_day:
                    self._keep_end(self._last_day, self._head)
            raise
        self._head, self._last_day = head, day

    def _keep_end(self, day: str, head: Head) -> None:
        end = self._key.sign(day, head).line()
        # A mark that is a line behind says less, and nothing that is wrong.
        replace_synced(dict.fromkeys((self._path / END, *self._marks), end), lasting=self._path)

    def _end_day(self, day: str) -> None:
        """Sign the end of a day that is over, once."""
        path = self._path / HEADS
        if path.exists() and any(one is not None and one.day == day for one in _signed_days(path)):
            return
        append_synced(path, self._key.sign(day, self._head).line())

    def _open_and_settle(self) -> None:
        for target, what in self._open():
            self._owed.append({
                "actor": "carrel", "action": "audit.mend", "target": target, "tenant": None, "request_id": "-",
                "before": None, "after": what, "outcome": "ok",
            })  # fmt: skip
        self._append_ends([{**line, "outcome": UNKNOWN} for line in self._begun.left()])
        self._settle()

    def _open(self) -> list[tuple[str, str]]:
        make_directory(self._path)
        notes: list[tuple[str, str]] = []
        self._signer, made = open_signer(self._state, *self._given)
        torn = self._find_end()
        if torn is not None:
            notes.append((torn, "a torn last line was cut off"))
        kept = _kept(self._path / END)
        if kept is None:
            kept = max(filter(None, map(_kept, self._marks)), key=lambda mark: mark.number, default=None)
            notes += [(END, "the signed end was missing, and the mark taken for it")] if kept is not None else []
        if kept is None:
            self._take_up()
        elif kept.head.number > self._head.number:
            # Where the files were cut short the chain goes on from the end that was: the gap stays to be found.
            self._head = kept.head
            _log.error("the audit log was cut short", lines=f"up to {kept.head.number}", see="carrel audit verify")
        elif kept.head.number < self._head.number:
            notes.append((f"lines {kept.head.number + 1} to {self._head.number}", "they came after the signed end"))
        if made:
            notes.append((self._key.id, "a key to sign with was made"))
        return notes

    def _take_up(self) -> None:
        """The first start with a key: what is there already gets its ends."""
        if not self._last_day:
            replace_synced(dict.fromkeys(self._marks, self._key.sign("", Head()).line()))
            return
        for file in days(self._path)[:-1]:
            with closing(backwards(file)) as lines:
                end = _head_of(next(lines, b""))
            append_synced(self._path / HEADS, self._key.sign(file.stem, end).line())
        self._keep_end(self._last_day, self._head)

    def _find_end(self) -> str | None:
        torn: str | None = None
        for path in reversed(days(self._path)):
            with closing(backwards(path)) as lines:
                last = next(lines, b"")
                if last and not last.endswith(b"\n"):
                    cut_off(path, len(last))
                    torn = path.name
                    last = next(lines, b"")
            if last:
                self._last_day = path.stem
                self._head = _head_of(last)
                break
        return torn


def _outcome(error: BaseException) -> str:
    """How a change ended that ``error`` left: where the disk or the gateway broke in its midst nobody knows.

    The name of a file may be in its place and its directory not synced; a fault of ours may come behind the effect.
    """
    if isinstance(error, CarrelError) and (isinstance(error, StorageFull) or not isinstance(error, StorageFailed)):
        return f"failed: {error.code}"
    return UNKNOWN


def _signed_days(path: Path) -> list[SignedHead | None]:
    return [SignedHead.parse(line) for line in path.read_bytes().splitlines()]


def _kept(path: Path) -> SignedHead | None:
    try:
        return SignedHead.parse(path.read_bytes())
    except OSError:
        return None


def _head_of(line: bytes) -> Head:
    try:
        found = json.loads(line)
        return Head(str(found["hash"]), int(found["n"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        # What follows a line that is not the record's begins a chain that verify shows as broken here.
        return Head(GENESIS, 0)


def _told(signed: SignedHead) -> SignedEnd:
    return SignedEnd(
        day=signed.day, number=signed.number, hash=signed.hash, key=signed.key, signature=signed.signature
    )  # fmt: skip


def _public(error: OSError) -> CarrelError:
    how = "the change was not made, for it could not be recorded"
    found = lacking(error, how)
    if found is not None:
        return found
    where = f" of {error.filename}" if error.filename else ""
    return CarrelError(f"{how[0].upper()}{how[1:]}: {os.strerror(error.errno or 0)}{where}.")
