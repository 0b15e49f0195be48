"""What a place for objects can do, and how it fails.

Keys are relative to the place's own prefix. Every method blocks: call it in a thread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from carrel.errors import CarrelError, Conflict, NotFound, Unavailable


class ObjectMissing(NotFound):
    """There is no object of that key."""

    code = "object_missing"


class ObjectChanged(Conflict):
    """A conditional write found another object there than the one that it was to replace."""

    code = "object_changed"


class StoreUnavailable(Unavailable):
    """The store did not answer, broke off, or asks to come again later."""

    code = "object_store_unavailable"


class ObjectNotKept(StoreUnavailable):
    """The store took an object, again and again, otherwise than it was sent: what is under its key now is wrong."""


class StoreRefused(CarrelError):
    """The store answers and will not: credentials, clock, bucket or permission. The message says which."""

    code = "object_store_refused"


class ObjectDamaged(CarrelError):
    """An object is not what was written: cut off, changed, or another one."""

    code = "object_damaged"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing. ``size`` is in bytes."""

    key: str
    size: int
    modified: datetime


class ObjectStore(Protocol):
    """A place for objects. ``conditional``: whether its conditional writes are to be relied on."""

    @property
    def conditional(self) -> bool: ...

    def require_conditions(self) -> None:
        """Raise StoreRefused where conditional writes are to be relied on and the store does not hold them."""
        ...

    def get(self, key: str, *, most: int) -> tuple[bytes, str]:
        """The object and its tag; raises ObjectMissing, and ObjectDamaged where it is over ``most`` bytes."""
        ...

    def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
        """Write it whole, and give its tag.

        ``replaces``: only in place of the object of that tag; ``absent``: only where there is none. Raises
        ObjectChanged.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key begins with ``prefix``, which ends in ``/`` or is empty."""
        ...

    def folders(self) -> Iterator[str]:
        """The first parts of all keys that have more than one part."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are no error."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...
