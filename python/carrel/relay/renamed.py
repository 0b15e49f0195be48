"""An answer that is kept here has an id of its own, for a vendor may give two the same: its caller sees that one."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from carrel.relay.observe import payload_of, record_in
from carrel.relay.splice import replace_members, start_of

Json = dict[str, Any]
_ID: Final = "id"
_BOM: Final = b"\xef\xbb\xbf"
_LINES: Final = re.compile(rb"\r\n|\n|\r")


def renamed(body: bytes, wanted: Json, own_id: str, *, within: str | None = None) -> bytes:
    """``body`` in JSON with ``own_id`` as its id, or as that of its member ``within``: then it is ``wanted``.

    All else stays as its vendor wrote it, unless that can be read in two ways.
    """
    try:
        made = _spliced(body, own_id, within)
        if record_in(made) == wanted:
            return made
    except (ValueError, KeyError, StopIteration):
        # Not as JSON is written: read leniently, and written anew.
        pass
    return json.dumps(wanted).encode()


def with_id(record: Json, own_id: str, *, within: str | None = None) -> Json:
    """``record`` with ``own_id`` in the same place; as it is where there is no such member."""
    if within is None:
        return record | {_ID: own_id}
    inner = record.get(within)
    return record | {within: inner | {_ID: own_id}} if isinstance(inner, dict) else record


def renamed_event(event: bytes, wanted: Json, own_id: str, *, within: str | None = None) -> bytes:
    """The same of an event of a stream, whose data is ``wanted`` then."""
    data = renamed(payload_of(event).encode(), wanted, own_id, within=within).replace(b"\n", b"\ndata: ")
    lines = _LINES.split(event.removeprefix(_BOM))
    rest = b"".join(line + b"\n" for line in lines if line and not line.startswith(b"data:"))
    return b"%bdata: %b\n\n" % (rest, data)


def _spliced(body: bytes, own_id: str, within: str | None) -> bytes:
    value: Mapping[str, object] = {_ID: own_id}
    if within is None:
        return replace_members(body, value)
    # Where that member ends is not looked for: an answer may be long, and its id is where it begins.
    start = start_of(body, within)
    return body[:start] + replace_members(body[start:], value)
