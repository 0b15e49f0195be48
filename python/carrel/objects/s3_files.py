"""Large files in S3: see `s3_upload` and `s3_reading`.

What a death left of an upload is ended by the next one of the same name, and by `end_left`.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from carrel.errors import InvalidRequest
from carrel.objects.files import BLOCK, Counts, require_name, there_is
from carrel.objects.location import require_key
from carrel.objects.pace import Pace
from carrel.objects.protocol import ObjectChanged, StoreRefused
from carrel.objects.retry import Patience, PatientStore
from carrel.objects.s3 import S3Store
from carrel.objects.s3_line import S3Line
from carrel.objects.s3_reading import Reader
from carrel.objects.s3_upload import GONE, PART, Sending, end, part_size

_log = structlog.get_logger(__name__)
SUFFIX: Final = ".tar.gz"
"""Only uploads of such names are ended by `end_left`: others beneath the place are another program's."""


@dataclass(frozen=True, slots=True)
class _Upload:
    """One on its way. ``name`` is the object's, ``id`` the store's own."""

    name: str
    id: str
    begun: datetime


class S3Files:
    """The large files beneath a bucket's prefix, with patience and pace.

    ``part`` bytes and more go up in parts, of so many each where that does; 5 MiB are the least that stores take.
    ``name`` and ``proven`` are as `PatientStore` has them.
    """

    def __init__(
        self, store: S3Store, *, pace: Pace, patience: Patience | None = None, part: int = PART, name: str = "",
        proven: set[str] | None = None,
    ) -> None:  # fmt: skip
        self._part = part
        self._patient = PatientStore(store, pace=pace, patience=patience, name=name, proven=proven)
        self._line = S3Line(store, pace=pace, patience=patience)

    def require_free(self, name: str) -> None:
        """See `FileStore`. Whether it still is so the end of an upload is conditional on."""
        if self._line.look(require_name(name)) is not None:
            raise there_is(name)
        self._patient.require_conditions()

    def send(self, name: str, source: Path, *, replaces: bool, counts: Counts) -> None:
        """See `FileStore`."""
        require_name(name)
        with source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = part_size(size, self._part)
            if not replaces:
                self.require_free(name)
            self._end_those_of(name)
            if size >= self._part:
                Sending(self._line, name, file.fileno(), (size, length), replaces=replaces, counts=counts).run()
                return
            try:
                self._patient.put(name, file.read(), absent=not replaces)
            except ObjectChanged:
                raise there_is(name) from None
            counts(size)

    def read(self, name: str, *, counts: Counts) -> tuple[BinaryIO, int]:
        """See `FileStore`."""
        reader = Reader(self._line, require_name(name), counts)
        return io.BufferedReader(reader, BLOCK), reader.size

    def end_left(self, before: datetime) -> int:
        """See `FileStore`."""
        ended = 0
        with self._if_it_can():
            for upload in self._uploads(""):
                if upload.name.endswith(SUFFIX) and upload.begun < before and self._last_of(upload) < before:
                    ended += end(self._line.store, upload.name, upload.id)
        return ended

    def close(self) -> None:
        """See `FileStore`."""
        self._line.store.close()

    def _end_those_of(self, name: str) -> None:
        """Whoever sends holds the name on this gateway: what there is of it, a death left."""
        with self._if_it_can():
            for upload in self._uploads(name):
                if upload.name == name and end(self._line.store, name, upload.id):
                    _log.info("an upload that broke off was ended", object=name, begun=upload.begun.isoformat())

    @contextlib.contextmanager
    def _if_it_can(self) -> Iterator[None]:
        """A store that knows no list of uploads, or does not give it to us, is used without."""
        try:
            yield
        except StoreRefused as error:
            _log.warning("uploads that broke off cannot be listed", reason=error.message)

    def _uploads(self, prefix: str) -> list[_Upload]:
        def work() -> list[_Upload]:
            with self._line.speaking("") as (s3, named):
                top = named["Key"]
                pages = s3.get_paginator("list_multipart_uploads").paginate(
                    Bucket=named["Bucket"], Prefix=top + prefix
                )  # fmt: skip
                return [
                    _Upload(one["Key"][len(top) :], one["UploadId"], one["Initiated"])
                    for page in pages for one in page.get("Uploads", ())
                    if one["Key"].startswith(top) and _is_ours(one["Key"][len(top) :])
                ]  # fmt: skip

        try:
            return self._line.tried(work)
        except StoreRefused as error:
            if error.details.get("reason") == GONE:
                # So some stores say that there is none.
                return []
            raise

    def _last_of(self, upload: _Upload) -> datetime:
        """When something last came of it."""

        def work() -> datetime:
            with self._line.speaking(upload.name) as (s3, named):
                pages = s3.get_paginator("list_parts").paginate(**named, UploadId=upload.id)
                times: list[datetime] = [part["LastModified"] for page in pages for part in page.get("Parts", ())]
            return max([upload.begun, *times])

        try:
            return self._line.tried(work)
        except StoreRefused as error:
            if error.details.get("reason") == GONE:
                return datetime.now(UTC)
            raise


def _is_ours(key: str) -> bool:
    try:
        return require_key(key) == key
    except InvalidRequest:
        return False
