"""What a model reads of a tool's output: made safe, cut to a size, and kept whole in a file of the workspace."""

import os
import re
from typing import Final

from carrel.agents.tools.protocol import ToolSetting
from carrel.agents.workspace import shown
from carrel.errors import CarrelError
from carrel.tenancy.paths import TenantRoot

HEAD_BYTES: Final = 20_000
TAIL_BYTES: Final = 10_000
KEPT_IN: Final = ".carrel/output"
KEPT_FILES: Final = 200
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")


def safe(data: bytes) -> str:
    """``data`` as text: what is no UTF-8 and what would steer a terminal is written as ``\\xNN`` or ``\\uNNNN``."""
    return safe_text(data.decode("utf-8", "backslashreplace"))


def safe_text(text: str) -> str:
    """``text`` without what would steer a terminal."""
    return _CONTROLS.sub(_escaped, text.replace("\r\n", "\n"))


async def fitted(data: bytes, setting: ToolSetting, *, dropped: int = 0) -> str:
    """``data`` as the model reads it, with the file that holds all of it named where it was cut.

    ``dropped`` are bytes that the sandbox did not keep.
    """
    text = safe(data)
    raw = text.encode()
    lost = f" The last {dropped} bytes were over the limit of the sandbox and are lost." if dropped else ""
    if len(raw) <= HEAD_BYTES + TAIL_BYTES:
        return text + (f"\n[{lost.strip()}]" if lost else "")
    where = await setting.workers.run(lambda: _keep(data, setting))
    head = raw[:HEAD_BYTES].decode(errors="ignore")
    tail = raw[-TAIL_BYTES:].decode(errors="ignore")
    left_out = len(raw) - HEAD_BYTES - TAIL_BYTES
    return f"{head}\n\n[{left_out} bytes are left out here. {where}{lost}]\n\n{tail}"


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _keep(data: bytes, setting: ToolSetting) -> str:
    """Keep ``data`` whole; returns the sentence that says where. A workspace that forbids it fails no tool."""
    name = f"{_NAME.sub('-', setting.call_id)[:64] or 'call'}-{os.urandom(3).hex()}.txt"
    try:
        workspace = setting.directory()
        try:
            workspace.replace(f"{KEPT_IN}/{name}", data)
            _prune(workspace)
        finally:
            workspace.close()
    except CarrelError as error:
        return f"The whole output could not be kept: {error.message}"
    return f"The whole output is in {shown(f'{KEPT_IN}/{name}')}; read it with file_read."


def _prune(workspace: TenantRoot) -> None:
    """Remove the oldest kept outputs where there are many."""
    kept = sorted(workspace.entries(KEPT_IN), key=lambda entry: entry[1].st_mtime_ns)
    for name, _ in kept[:-KEPT_FILES]:
        workspace.remove(f"{KEPT_IN}/{name}")
