"""The store at a place, with patience and pace."""

from pathlib import Path

from carrel.objects.directory import DirectoryStore
from carrel.objects.location import Location
from carrel.objects.pace import Pace
from carrel.objects.protocol import ObjectStore
from carrel.objects.retry import Patience, PatientStore
from carrel.objects.s3 import S3Options, S3Store


def open_store(
    location: Location, options: S3Options, *, pace: Pace | None = None, patience: Patience | None = None
) -> ObjectStore:
    """The objects at ``location``; ``options`` are for S3 alone."""
    is_file = location.scheme == "file"
    store: ObjectStore = DirectoryStore(Path(location.prefix)) if is_file else S3Store(location, options)
    return PatientStore(store, pace=pace or Pace(), patience=patience)
