"""One file on its way into S3: sent in parts, some at a time, each tried again by itself.

What fails or is cancelled is ended, so that no bucket charges for parts which no listing shows. Parts are of one size
but the last, as R2 asks. What arrived is told by the tags of the parts and of the whole, which are MD5s; where a store
gives others, as with keys of its own, the whole is read back.
"""

import base64
import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

import structlog

from carrel.errors import CarrelError, TooLarge
from carrel.objects.files import BLOCK, Counts, there_is
from carrel.objects.pace import Cancelled, Pace
from carrel.objects.protocol import ObjectChanged, ObjectNotKept, StoreRefused, StoreUnavailable
from carrel.objects.retry import Patience, tried
from carrel.objects.s3 import S3Store
from carrel.objects.s3_line import S3Line
from carrel.objects.s3_reading import Reader

_log = structlog.get_logger(__name__)
PART: Final = 16 << 20
"""From so many bytes on a file goes up in parts, of so many each."""
MOST_PARTS: Final = 10_000
MOST_BYTES: Final = 5 << 40
SENDERS: Final = 4
_ENDING: Final = Patience(attempts=2, first=0.2, most=2.0)
GONE: Final = "NoSuchUpload"
"""The store's word for an upload that is ended, or never was."""
_NO_CONDITION: Final = ("NotImplemented", "InvalidArgument")


def bare(tag: str) -> str:
    """A tag without its quotes, and without the generation that Google's have."""
    return tag.strip('"').partition(":")[0]


class UploadEnded(ObjectChanged):
    """An upload was ended by somebody else than who sends."""


def part_size(size: int, least: int = PART) -> int:
    """How many bytes each part of a file of ``size`` has, ``least`` or more; raises TooLarge."""
    if size > MOST_BYTES:
        raise TooLarge(f"The file has {size} bytes; {MOST_BYTES} are the most that a store takes.")
    fitting = -(-size // MOST_PARTS)
    return max(least, -(-fitting // BLOCK) * BLOCK)


def end(store: S3Store, name: str, upload: str) -> bool:
    """End an upload and let go of its parts, also after the work was stopped; whether that was done.

    A store that does not answer is not waited for long: the gateway may be stopping.
    """
    hasty = store.hasty()

    def work() -> None:
        with hasty.speaking(name) as (s3, named):
            s3.abort_multipart_upload(**named, UploadId=upload)

    try:
        with contextlib.closing(hasty):
            tried(work, pace=Pace(), patience=_ENDING)
    except CarrelError as error:
        if error.details.get("reason") != GONE:
            _log.warning("an upload in parts could not be ended", object=name, reason=error.message)
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Part:
    """One part as it was sent. ``tag`` is the store's."""

    number: int
    digest: bytes
    tag: str


class Sending:
    """One upload, from its begin to an object that is as the file of ``fd`` is.

    ``sizes`` are the file's and a part's, in bytes.
    """

    def __init__(
        self, line: S3Line, name: str, fd: int, sizes: tuple[int, int], *, replaces: bool, counts: Counts
    ) -> None:  # fmt: skip
        self._line, self._name, self._fd = line, name, fd
        self._size, self._part = sizes
        self._absent = not replaces
        self._counts = counts
        self._lock = threading.Lock()
        self._other_tags = False
        self._after = S3Line(line.store, pace=Pace(), patience=_ENDING)
        """For what is asked once it may be there: whoever stops it then is told the truth."""

    def run(self) -> None:
        """Raises ObjectChanged, ObjectNotKept, and what the store does; then nothing of it is left."""
        upload = self._begin()
        try:
            parts = self._sent(upload)
            whole = hashlib.md5(b"".join(part.digest for part in parts), usedforsecurity=False).hexdigest()
            self._complete(upload, parts, f"{whole}-{len(parts)}")
        except BaseException:
            end(self._line.store, self._name, upload)
            raise

    def _begin(self) -> str:
        def work() -> str:
            with self._line.speaking(self._name) as (s3, named):
                return str(s3.create_multipart_upload(**named, ContentType="application/gzip")["UploadId"])

        return self._line.tried(work)

    # --- its parts ---

    def _sent(self, upload: str) -> list[_Part]:
        count = -(-self._size // self._part)
        with ThreadPoolExecutor(SENDERS, thread_name_prefix="carrel-upload") as pool:
            flying = [pool.submit(self._one, upload, number) for number in range(1, count + 1)]
            try:
                wait(flying, return_when=FIRST_EXCEPTION)
                failed = [error for one in flying if (error := _error_of(one)) is not None]
                if failed:
                    raise next((error for error in failed if not isinstance(error, Cancelled)), failed[0])
                return [one.result() for one in flying]
            except BaseException:
                # Nothing more is sent, and none is on its way when the upload is ended.
                self._line.pace.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _one(self, upload: str, number: int) -> _Part:
        begin = (number - 1) * self._part
        length = min(self._part, self._size - begin)
        digest = self._slice(begin, length).md5()

        def work() -> str:
            self._line.pace.spend(length)
            with self._line.speaking(self._name) as (s3, named):
                answer = s3.upload_part(
                    **named, UploadId=upload, PartNumber=number, Body=self._slice(begin, length), ContentLength=length,
                    ContentMD5=base64.b64encode(digest).decode(),
                )  # fmt: skip
                return str(answer["ETag"])

        try:
            tag = self._line.tried(work)
            if bare(tag) != digest.hex() and not self._other_tags:
                # Not taken as it was sent, or a store of other tags: then the whole is read back in the end.
                tag = self._line.tried(work)
                self._other_tags = bare(tag) != digest.hex()
        except StoreRefused as error:
            raise self._unless_gone(error) from None
        with self._lock:
            self._counts(length)
        return _Part(number, digest, tag)

    def _slice(self, begin: int, length: int) -> "Slice":
        return Slice(self._fd, begin, length, going=self._line.pace.check)

    # --- the whole ---

    def _complete(self, upload: str, parts: Sequence[_Part], whole: str) -> None:
        unsure = False

        def work() -> str | None:
            nonlocal unsure
            # Some stores take the condition and do not hold it: looked for as late as can be, whatever is declared.
            if self._absent and not unsure and self._line.look(self._name) is not None:
                raise there_is(self._name)
            try:
                return self._completed(upload, parts)
            except StoreUnavailable:
                unsure = True
                raise
            except ObjectChanged:
                # An answer was lost, and it was done all the same.
                if unsure and self._is_there(whole):
                    return None
                raise

        tag: str | None = None
        try:
            tag = self._line.tried(work)
        except Cancelled:
            if not unsure or not self._is_there(whole):
                raise
        except UploadEnded:
            raise
        except ObjectChanged:
            raise there_is(self._name) from None
        if tag is not None and not self._is_there(whole, tag):
            raise ObjectNotKept(f"The store does not keep {self._name} as it was sent.")

    def _completed(self, upload: str, parts: Sequence[_Part]) -> str:
        wanted = {"Parts": [{"PartNumber": part.number, "ETag": part.tag} for part in parts]}
        condition = {"IfNoneMatch": "*"} if self._absent and self._line.store.completes_on_condition else {}
        try:
            with self._line.speaking(self._name) as (s3, named):
                answer = s3.complete_multipart_upload(**named, UploadId=upload, MultipartUpload=wanted, **condition)
                return str(answer["ETag"])
        except StoreRefused as error:
            if condition and error.details.get("reason") in _NO_CONDITION:
                raise StoreRefused(
                    "The store knows no condition at the end of an upload in parts: say that what is there is to be "
                    "replaced, or `conditional_writes: false` where only one host writes there."
                ) from None
            raise self._unless_gone(error) from None

    def _is_there(self, whole: str, tag: str | None = None) -> bool:
        """Whether the file is there, of which ``tag`` was told: the tag is the MD5 of its parts', or it is read back.

        Where it is otherwise, or stopped before that is known, and still the one that was told of, it is taken away.
        """
        found = self._after.look(self._name)
        ours = found is not None and tag is not None and bare(found[1]) == bare(tag)
        if found is None or found[0] != self._size:
            same = False
        elif whole in (bare(found[1]), bare(tag or "")):
            return True
        else:
            try:
                same = self._reads_back()
            except Cancelled:
                if ours:
                    self._remove()
                raise
        if not same and ours:
            self._remove()
        return same

    def _remove(self) -> None:
        self._after.tried(lambda: self._line.store.delete([self._name]))

    def _reads_back(self) -> bool:
        own = self._slice(0, self._size)
        with contextlib.closing(io.BufferedReader(Reader(self._line, self._name, lambda _: None), BLOCK)) as stream:
            while block := own.read(BLOCK):
                if stream.read(len(block)) != block:
                    return False
            return not stream.read(1)

    def _unless_gone(self, error: StoreRefused) -> CarrelError:
        if error.details.get("reason") != GONE:
            return error
        return UploadEnded(
            f"The upload of {self._name} was ended by somebody else: by another export to that place, or by a rule of "
            "the bucket."
        )


class Slice:
    """A part of an open file, as the library reads it; sizes are bytes."""

    def __init__(self, fd: int, begin: int, length: int, *, going: Callable[[], None]) -> None:
        self.length = length
        self._fd = fd
        self._begin = begin
        self._at = 0
        self._going = going

    def read(self, count: int | None = -1) -> bytes:
        """The next bytes."""
        self._going()
        left = self.length - self._at
        wanted = left if count is None or count < 0 else min(count, left)
        data = os.pread(self._fd, wanted, self._begin + self._at)
        if len(data) < wanted:
            raise OSError("The file is shorter than it was.")
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go elsewhere."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.length}[whence]
        self._at = min(max(base + offset, 0), self.length)
        return self._at

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def md5(self) -> bytes:
        """The digest of all of it."""
        digest = hashlib.md5(usedforsecurity=False)
        while block := self.read(BLOCK):
            digest.update(block)
        return digest.digest()


def _error_of(one: "Future[_Part]") -> BaseException | None:
    return one.exception() if one.done() and not one.cancelled() else None
