"""The store at a place, with patience and pace."""

from pathlib import Path

from carrel.objects.directory import DirectoryStore
from carrel.objects.directory_files import DirectoryFiles
from carrel.objects.files import FileStore
from carrel.objects.location import Location
from carrel.objects.pace import Pace
from carrel.objects.protocol import ObjectStore
from carrel.objects.retry import Patience, PatientStore
from carrel.objects.s3 import S3Options, S3Store
from carrel.objects.s3_files import S3Files


def open_store(
    location: Location, options: S3Options, *, pace: Pace | None = None, patience: Patience | None = None,
    proven: set[str] | None = None,
) -> ObjectStore:  # fmt: skip
    """The objects at ``location``; ``options`` are for S3 alone.

    ``proven`` is kept by whoever opens many: the buckets of which it is known that they hold conditions.
    """
    is_file = location.scheme == "file"
    store: ObjectStore = DirectoryStore(Path(location.prefix)) if is_file else S3Store(location, options)
    return PatientStore(store, pace=pace or Pace(), patience=patience, name=_name(location, options), proven=proven)


def open_files(
    location: Location, options: S3Options, *, pace: Pace | None = None, patience: Patience | None = None,
    proven: set[str] | None = None,
) -> FileStore:  # fmt: skip
    """The large files at ``location``; see `open_store`."""
    if location.scheme == "file":
        return DirectoryFiles(Path(location.prefix), pace=pace or Pace())
    store = S3Store(location, options)
    return S3Files(
        store, pace=pace or Pace(), patience=patience, name=_name(location, options), proven=proven
    )  # fmt: skip


def _name(location: Location, options: S3Options) -> str:
    """What conditions are known of: a bucket at a server, in one dialect."""
    return f"{options.endpoint or ''} {location.bucket} {'gcs' if options.google else 's3'}"
