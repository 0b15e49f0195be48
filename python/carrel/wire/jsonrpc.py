"""JSON-RPC 2.0: requests and batches parsed, answers and errors rendered. Knows no method and no socket.

Source: https://www.jsonrpc.org/specification.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

MAX_BATCH: Final = 50
MAX_DEPTH: Final = 100

Id = str | int | float | None


@dataclass(frozen=True, slots=True)
class Call:
    """One well-formed request. ``params`` is None where none were sent; a ``notification`` gets no answer."""

    id: Id
    method: str
    params: dict[str, Any] | list[Any] | None = None
    notification: bool = False


class RpcError(Exception):
    """An error object: ``data`` holds what a program may act upon."""

    def __init__(self, code: int, message: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def render(self) -> dict[str, Any]:
        """The error object of an answer."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data:
            body["data"] = dict(self.data)
        return body


@dataclass(frozen=True, slots=True)
class Malformed:
    """An entry that is no request: it is answered with ``error`` under ``id`` where one could be read."""

    id: Id
    error: RpcError


@dataclass(frozen=True, slots=True)
class Envelope:
    """What one body held, in its order. ``batch`` says whether the answers go into an array."""

    entries: tuple[Call | Malformed, ...]
    batch: bool


def parse(body: bytes, *, max_batch: int = MAX_BATCH) -> Envelope:
    """The requests in ``body``. Never raises: what cannot be read becomes an entry that says so."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return _refused(PARSE_ERROR, "The body is not JSON in UTF-8.")
    if _deeper_than(value, MAX_DEPTH):
        return _refused(INVALID_REQUEST, f"The body is nested deeper than {MAX_DEPTH} levels.")
    if not isinstance(value, list):
        return Envelope((_entry(value),), batch=False)
    if not value:
        return _refused(INVALID_REQUEST, "A batch holds at least one request.")
    if len(value) > max_batch:
        return _refused(INVALID_REQUEST, f"A batch holds at most {max_batch} requests; this one holds {len(value)}.")
    return Envelope(tuple(_entry(item) for item in value), batch=True)


def result(id: Id, value: Any) -> dict[str, Any]:  # noqa: A002 - the specification's name
    """A successful answer."""
    return {"jsonrpc": "2.0", "id": id, "result": value}


def failure(id: Id, error: RpcError) -> dict[str, Any]:  # noqa: A002 - the specification's name
    """An answer that is an error."""
    return {"jsonrpc": "2.0", "id": id, "error": error.render()}


def _entry(value: Any) -> Call | Malformed:
    if not isinstance(value, dict):
        return Malformed(None, RpcError(INVALID_REQUEST, "A request is a JSON object."))
    given = value.get("id")
    known = given if isinstance(given, str | int | float) and not isinstance(given, bool) else None
    if "id" in value and given is not None and known is None:
        return Malformed(None, RpcError(INVALID_REQUEST, "`id` is a string, a number or null."))
    if value.get("jsonrpc") != "2.0":
        return Malformed(known, RpcError(INVALID_REQUEST, '`jsonrpc` must be "2.0".'))
    method = value.get("method")
    if not isinstance(method, str):
        return Malformed(known, RpcError(INVALID_REQUEST, "`method` must be a string."))
    if "params" in value and not isinstance(value["params"], dict | list):
        return Malformed(known, RpcError(INVALID_REQUEST, "`params` is an object or an array, or is left out."))
    return Call(known, method, value.get("params"), notification="id" not in value)


def _refused(code: int, message: str) -> Envelope:
    return Envelope((Malformed(None, RpcError(code, message)),), batch=False)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _deeper_than(value: Any, limit: int) -> bool:
    """True where containers are nested deeper than ``limit``; walks level by level, so depth costs no stack."""
    level = [value]
    for _ in range(limit):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(v for v in item.values() if isinstance(v, dict | list))
            elif isinstance(item, list):
                below.extend(v for v in item if isinstance(v, dict | list))
        if not below:
            return False
        level = below
    return True
