"""Lists page by page: a cursor names the place after the last entry by what it is sorted by, not by its number."""

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from typing import TypeVar

from carrel.errors import InvalidRequest
from carrel.wire.rpc import Page

T = TypeVar("T")
Place = tuple[str, ...]


def paged(
    entries: Iterable[T], place: Callable[[T], Place], page: Page, *, newest_first: bool = False
) -> tuple[list[T], str | None]:
    """The entries of ``page`` in the order of their ``place``, and the cursor of the next page, None at the end."""
    found = sorted(entries, key=place, reverse=newest_first)
    if page.cursor is not None:
        after = _read(page.cursor)
        found = [one for one in found if (place(one) < after if newest_first else place(one) > after)]
    taken = found[: page.limit]
    return taken, _write(place(taken[-1])) if len(found) > page.limit else None


def _write(place: Place) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def _read(cursor: str) -> Place:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        place = json.loads(text)
    except (ValueError, binascii.Error):
        place = None
    if not isinstance(place, list) or not place or not all(isinstance(part, str) for part in place):
        raise InvalidRequest("That cursor is none of ours: leave it out to begin anew.", param="cursor")
    return tuple(place)
