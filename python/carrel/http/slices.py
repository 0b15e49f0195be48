"""JSON of what may be long, written a few items at a time: streams go on between them.

All of ten thousand tenants in one call of a serializer would keep the interpreter from everybody else for a second. It
knows nothing of what the values mean.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from aiohttp import web
from pydantic import TypeAdapter

SLICE_SECONDS: Final = 0.002
"""After so long the loop has its turn."""
_DEPTH: Final = 3
"""So far down objects are written member by member; an item of a list is written in one."""
_ANY: Final = TypeAdapter[object](object)


async def document(value: object) -> web.Response:
    """Whatever a room reports of itself, dataclass or model, as JSON."""
    written = bytearray()
    began = time.monotonic()
    for part in _parts(value, _DEPTH):
        written += part
        if time.monotonic() - began > SLICE_SECONDS:
            await asyncio.sleep(0)
            began = time.monotonic()
    return web.Response(body=bytes(written), content_type="application/json")


def _parts(value: object, depth: int) -> Iterator[bytes]:
    """The JSON of ``value``, in pieces of which each is quickly made."""
    members = _members(value) if depth else None
    if members is not None:
        separator = b"{"
        for name, member in members:
            yield separator + json.dumps(name).encode() + b":"
            yield from _parts(member, depth - 1)
            separator = b","
        yield b"}" if separator == b"," else b"{}"
    elif depth and isinstance(value, list | tuple):
        separator = b"["
        for item in value:
            yield separator + _ANY.dump_json(item)
            separator = b","
        yield b"]" if separator == b"," else b"[]"
    else:
        yield _ANY.dump_json(value)


def members(value: object) -> Mapping[str, Any]:
    """What a report has by name; nothing where it is no object."""
    return dict(_members(value) or ())


def _members(value: object) -> Iterable[tuple[str, Any]] | None:
    """What an object has by name, None where it is none."""
    if isinstance(value, Mapping):
        return value.items() if all(type(name) is str for name in value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return ((field.name, getattr(value, field.name)) for field in fields(value))
    return None
