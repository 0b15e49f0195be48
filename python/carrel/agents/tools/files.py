"""`file_read`, `file_write`, `file_edit`: files of the workspace, opened by descriptor beneath it."""

import os
import re
import stat
from collections.abc import Callable
from typing import Any, Final, TypeVar

from carrel.agents.tools.output import fitted
from carrel.agents.tools.protocol import ToolOutcome, ToolSetting
from carrel.agents.workspace import beneath, shown
from carrel.declare.tenant import ToolName
from carrel.errors import CarrelError, InvalidRequest, NotFound, StorageFull
from carrel.tenancy.paths import TenantRoot, clean
from carrel.wire.conversation import ToolSpec

T = TypeVar("T")
MAX_FILE_BYTES: Final = 32 * 1024 * 1024
DEFAULT_LINES: Final = 2000
_NEW_MODE: Final = 0o644
_PATH: Final = {"type": "string", "minLength": 1, "maxLength": 4096, "description": "The file, as `/workspace/notes.md`"
                " or `notes.md`."}  # fmt: skip
_LINE_END: Final = re.compile(rb"(?<=\n)")


class FileRead:
    """Reads a text file, all of it or some lines."""

    name: ToolName = "file_read"
    annotation: str | None = None
    spec = ToolSpec(
        "file_read",
        "Read a text file of the workspace.",
        {
            "type": "object",
            "properties": {
                "path": _PATH,
                "offset": {"type": "integer", "minimum": 1, "description": "The first line to read, counted from 1."},
                "limit": {"type": "integer", "minimum": 1, "maximum": 100_000,
                          "description": f"Lines at most; {DEFAULT_LINES} where left out."},
            },
            "required": ["path"],
            "additionalProperties": False,
        },
    )  # fmt: skip

    async def run(self, arguments: dict[str, Any], setting: ToolSetting) -> ToolOutcome:
        path = beneath(arguments["path"])
        data = await _with_workspace(setting, lambda workspace: _read(workspace, path))
        if b"\0" in data:
            return ToolOutcome(
                f"{shown(path)} is no text: {len(data)} bytes that begin with {data[:32].hex(' ')}.", is_error=True
            )
        lines = _LINE_END.split(data) if data else []
        if lines and not lines[-1]:
            lines.pop()
        first = int(arguments.get("offset", 1))
        if first > max(len(lines), 1):
            return ToolOutcome(f"{shown(path)} has {len(lines)} lines.", is_error=True)
        last = min(first - 1 + int(arguments.get("limit", DEFAULT_LINES)), len(lines))
        content = await fitted(b"".join(lines[first - 1 : last]), setting)
        if last < len(lines):
            content += f"\n[lines {first} to {last} of {len(lines)}; read on with offset {last + 1}]"
        return ToolOutcome(content)


class FileWrite:
    """Writes a whole file."""

    name: ToolName = "file_write"
    annotation: str | None = None
    spec = ToolSpec(
        "file_write",
        "Write a whole file of the workspace. Directories that are missing are made; a file that is there is replaced.",
        {
            "type": "object",
            "properties": {
                "path": _PATH,
                "content": {"type": "string", "maxLength": 8_000_000, "description": "All of its text."},
            },
            "required": ["path", "content"],
            "additionalProperties": False,
        },
    )

    async def run(self, arguments: dict[str, Any], setting: ToolSetting) -> ToolOutcome:
        path = _file_path(arguments["path"])
        data = arguments["content"].encode()
        async with setting.editing((setting.tenant.id, setting.workspace)):
            await setting.sandbox.room(setting.tenant, len(data))
            existed = await _with_workspace(setting, lambda workspace: _write(workspace, path, data))
        return ToolOutcome(f"{'Replaced' if existed else 'Wrote'} {shown(path)}: {len(data)} bytes.")


class FileEdit:
    """Replaces a piece of a file."""

    name: ToolName = "file_edit"
    annotation: str | None = None
    spec = ToolSpec(
        "file_edit",
        "Replace a text in a file of the workspace. The text must be in the file as it is given, white space and all, "
        "and once only unless `replace_all` is true.",
        {
            "type": "object",
            "properties": {
                "path": _PATH,
                "old": {"type": "string", "minLength": 1, "maxLength": 8_000_000, "description": "What is there."},
                "new": {"type": "string", "maxLength": 8_000_000, "description": "What takes its place."},
                "replace_all": {"type": "boolean", "description": "Replace it wherever it is."},
            },
            "required": ["path", "old", "new"],
            "additionalProperties": False,
        },
    )

    async def run(self, arguments: dict[str, Any], setting: ToolSetting) -> ToolOutcome:
        path = _file_path(arguments["path"])
        old, new = arguments["old"].encode(), arguments["new"].encode()
        everywhere = bool(arguments.get("replace_all", False))

        def edited(workspace: TenantRoot) -> tuple[bytes, int]:
            return _edited(_read(workspace, path), old, new, everywhere=everywhere, path=path)

        async with setting.editing((setting.tenant.id, setting.workspace)):
            changed, count = await _with_workspace(setting, edited)
            await setting.sandbox.room(setting.tenant, max(0, (len(new) - len(old)) * count))
            await _with_workspace(setting, lambda workspace: _write(workspace, path, changed))
        return ToolOutcome(f"Edited {shown(path)}: replaced {count} time{'s' if count != 1 else ''}.")


def _edited(data: bytes, old: bytes, new: bytes, *, everywhere: bool, path: str) -> tuple[bytes, int]:
    if old == new:
        raise InvalidRequest("`old` and `new` are the same: there is nothing to change.")
    count = data.count(old)
    if not count and b"\r\n" in data and b"\n" in old and b"\r\n" not in old:
        old, new = old.replace(b"\n", b"\r\n"), new.replace(b"\n", b"\r\n")
        count = data.count(old)
    if not count:
        raise InvalidRequest(f"`old` is not in {shown(path)}. Read the file, and give it exactly as it is there.")
    if count > 1 and not everywhere:
        raise InvalidRequest(
            f"`old` is in {shown(path)} {count} times. Give more of what is around it, or set `replace_all`."
        )
    return data.replace(old, new), count


async def _with_workspace(setting: ToolSetting, work: Callable[[TenantRoot], T]) -> T:
    def done() -> T:
        workspace = setting.directory()
        try:
            return work(workspace)
        except OSError as error:
            raise CarrelError(f"A file operation failed: {os.strerror(error.errno or 0)}.") from error
        finally:
            workspace.close()

    return await setting.workers.run(done)


def _file_path(path: str) -> str:
    found = beneath(path)
    if found == "." or found.endswith("/"):
        raise InvalidRequest(f"{shown(found)} names no file.", param="path")
    return found


def _read(workspace: TenantRoot, path: str) -> bytes:
    try:
        fd = workspace.open_file(path)
    except NotFound:
        raise NotFound(f"There is no {shown(path)}.") from None
    with os.fdopen(fd, "rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise InvalidRequest(f"{shown(path)} is over {MAX_FILE_BYTES >> 20} MiB; read parts of it with the shell.")
    return data


def _write(workspace: TenantRoot, path: str, data: bytes) -> bool:
    """Write the file, keeping its permissions; whether there was one. What is no plain file is not replaced."""
    mode, existed = _NEW_MODE, True
    try:
        fd = workspace.open_file(path)
    except NotFound:
        existed = False
    else:
        try:
            mode = stat.S_IMODE(os.fstat(fd).st_mode) & 0o777 | 0o600
        finally:
            os.close(fd)
    try:
        workspace.replace(clean(path), data, mode=mode)
    except StorageFull:
        raise StorageFull(f"The disk is full: {shown(path)} is as it was.") from None
    return existed
