"""What of an MCP request is looked at, and which of its fields go on: pure.

The transport is streamable HTTP (MCP 2025-03-26 and later). A message is JSON-RPC; only its method, and the tool that
is called, are taken out of it, for the record.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from carrel.errors import InvalidRequest

SESSION: Final = "Mcp-Session-Id"
LAST_EVENT: Final = "Last-Event-ID"
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
MOST_FIELDS: Final = 64
_VALUE: Final = re.compile(r"[ -~]{0,4096}")
_WORD: Final = re.compile(r"[A-Za-z0-9_./-]{1,128}")


@dataclass(frozen=True, slots=True)
class Said:
    """What a body asks for. ``tool`` is set for a call of one."""

    method: str
    tool: str | None = None

    @property
    def is_change(self) -> bool:
        """Whether the record has a line of it."""
        return self.method in ("initialize", "tools/call")


def said(body: bytes) -> tuple[Said, ...]:
    """The messages of a body, one or a batch; raises InvalidRequest."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("The body is not JSON: an MCP message is a JSON-RPC object.") from None
    messages = document if isinstance(document, list) else [document]
    if not messages or not all(isinstance(one, dict) for one in messages):
        raise InvalidRequest("An MCP message is a JSON-RPC object, or a list of such.")
    return tuple(_said(one) for one in messages)


def _said(message: dict[str, Any]) -> Said:
    method = message.get("method")
    if not isinstance(method, str):
        return Said("response")
    params = message.get("params")
    name = params.get("name") if isinstance(params, dict) and method == "tools/call" else None
    return Said(_shown(method), _shown(name) if isinstance(name, str) else None)


def _shown(text: str) -> str:
    return text if _WORD.fullmatch(text) else "(odd name)"


def passed_on(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The fields of a request that the server gets: those of the protocol, by name, and no credential or cookie.

    Raises InvalidRequest for a value that is none, or one that is there twice.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered == SESSION.lower() or not (lowered.startswith("mcp-") or lowered == LAST_EVENT.lower()):
            continue
        if lowered in found or len(found) >= MOST_FIELDS or not _VALUE.fullmatch(value):
            raise InvalidRequest(f"The field {name[:64]} is there twice, or holds what no such field does.")
        found[lowered] = value
    return found


def kind_of(headers: Mapping[str, str]) -> str:
    """The media type of an answer, "" where there is none."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()
