"""One S3 store as large files use it: its words, with patience and pace."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from carrel.objects.pace import Pace
from carrel.objects.protocol import ObjectMissing
from carrel.objects.retry import Patience, tried
from carrel.objects.s3 import S3Store

T = TypeVar("T")


class S3Line:
    """What is asked through it is tried again, and stops with ``pace``."""

    def __init__(self, store: S3Store, *, pace: Pace, patience: Patience | None = None) -> None:
        self.store = store
        self.pace = pace
        self.patience = patience or Patience()

    def tried(self, work: Callable[[], T]) -> T:
        """What ``work`` gives, tried again where the store could not do it just then."""
        return tried(work, pace=self.pace, patience=self.patience)

    def speaking(self, name: str) -> AbstractContextManager[tuple[Any, dict[str, str]]]:
        """See `S3Store.speaking`."""
        return self.store.speaking(name)

    def look(self, name: str) -> tuple[int, str] | None:
        """The size in bytes and the tag of what is there, None where nothing is."""

        def work() -> tuple[int, str] | None:
            try:
                with self.speaking(name) as (s3, named):
                    answer = s3.head_object(**named)
            except ObjectMissing:
                return None
            return int(answer["ContentLength"]), str(answer["ETag"])

        return self.tried(work)
