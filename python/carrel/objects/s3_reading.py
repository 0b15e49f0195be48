"""An object of S3 from its begin to its end. Where it breaks off it is asked for from there on.

That it is still the same object is told by the tag of each answer, which all stores give alike, not by a condition.
"""

import io
from typing import Any

from carrel.objects.files import Counts
from carrel.objects.protocol import ObjectChanged, StoreRefused, StoreUnavailable
from carrel.objects.s3_line import S3Line


class Reader(io.RawIOBase):
    """A stream of one object; ``size`` is in bytes. Raises what the store does, and ObjectChanged."""

    def __init__(self, line: S3Line, name: str, counts: Counts) -> None:
        self._line, self._name, self._counts = line, name, counts
        self._at = 0
        self._tag: str | None = None
        self._body: Any = None
        self.size = 0
        self._line.tried(self._open)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes, 0 at the end."""
        if self._at >= self.size:
            return 0
        data = self._line.tried(lambda: self._next(len(buffer)))
        buffer[: len(data)] = data
        self._at += len(data)
        self._line.pace.spend(len(data))
        self._counts(len(data))
        return len(data)

    def close(self) -> None:
        """Give the connection back."""
        self._let_go()
        super().close()

    def _next(self, count: int) -> bytes:
        if self._body is None:
            self._open()
        try:
            with self._line.speaking(self._name):
                data: bytes = self._body.read(min(count, self.size - self._at))
        except BaseException:
            self._let_go()
            raise
        if not data:
            self._let_go()
            raise StoreUnavailable(f"The object {self._name} was cut off on its way.")
        return data

    def _open(self) -> None:
        wanted = {"Range": f"bytes={self._at}-"} if self._at else {}
        with self._line.speaking(self._name) as (s3, named):
            answer = s3.get_object(**named, **wanted)
        self._body = answer["Body"]
        size, tag = int(answer["ContentLength"]) + self._at, str(answer["ETag"])
        if self._tag is None:
            self.size, self._tag = size, tag
            return
        ranged = str(answer.get("ContentRange", ""))
        if tag != self._tag:
            self._let_go()
            raise ObjectChanged(f"The object {self._name} was replaced while it was read: try again.")
        if self._at and (not ranged.startswith(f"bytes {self._at}-") or size != self.size):
            self._let_go()
            raise StoreRefused(f"The store does not give {self._name} from where it broke off.")

    def _let_go(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()
