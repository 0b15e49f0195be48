"""What a place for large files can do: an object that goes up in parts, and is read from wherever it broke off.

A name is one part of a key. Every method blocks: call it in a thread.
"""

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from carrel.errors import InvalidRequest
from carrel.objects.protocol import ObjectChanged

Counts = Callable[[int], None]
"""Told how many bytes more went or came; less than none where they go again. From one thread at a time."""
BLOCK: Final = 1 << 20
OF_BACKUPS: Final = frozenset({"pieces", "manifests"})
"""Folders of tenants' backups, which are swept of all that no backup names: no large file is in them."""
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")


class FileStore(Protocol):
    """A place for large files."""

    def require_free(self, name: str) -> None:
        """Raise ObjectChanged where there is an object of that name, StoreRefused where conditions do not hold there.

        What `send` asks before it begins.
        """
        ...

    def send(self, name: str, source: Path, *, replaces: bool, counts: Counts) -> None:
        """Make ``source`` the object ``name``, whole or not at all.

        Raises ObjectChanged where there is one already and it is not to be replaced. An upload of that very name that
        broke off before is ended.
        """
        ...

    def read(self, name: str, *, counts: Counts) -> tuple[BinaryIO, int]:
        """The object from its begin on, and its size in bytes; raises ObjectMissing.

        What is read is of one object from begin to end: raises ObjectChanged where it was replaced meanwhile.
        """
        ...

    def end_left(self, before: datetime) -> int:
        """End uploads that broke off, and of which nothing came since ``before``; how many there were."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


def require_name(name: str) -> str:
    """``name`` where it is one for a large file; raises InvalidRequest."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:100]!r} is no name for a file there: letters, digits, `_`, `.` and `-`.", param="to"
        )  # fmt: skip
    return name


def there_is(name: str) -> ObjectChanged:
    """What to say where a name is taken."""
    return ObjectChanged(
        f"There is {name} at that place already: name another, or say that it is to be replaced (`--replace`)."
    )
