"""`file_list`: what is in a directory of the workspace, walked by descriptors."""

import os
import stat
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from carrel.agents.tools.output import fitted, safe
from carrel.agents.tools.protocol import ToolOutcome, ToolSetting
from carrel.agents.workspace import beneath, shown
from carrel.declare.tenant import ToolName
from carrel.errors import CarrelError, NotFound
from carrel.tenancy.paths import TenantRoot
from carrel.wire.conversation import ToolSpec

MAX_ENTRIES: Final = 1000
MAX_DEPTH: Final = 16
_SCANNED: Final = 10_000


class FileList:
    """Lists a directory."""

    name: ToolName = "file_list"
    annotation: str | None = None
    spec = ToolSpec(
        "file_list",
        "List a directory of the workspace: directories end in `/`, links in `@`, and files have their size in bytes.",
        {
            "type": "object",
            "properties": {
                "path": {"type": "string", "maxLength": 4096, "description": "The directory; /workspace if left out."},
                "recursive": {"type": "boolean", "description": "List what is in its directories, too."},
            },
            "required": [],
            "additionalProperties": False,
        },
    )

    async def run(self, arguments: dict[str, Any], setting: ToolSetting) -> ToolOutcome:
        path = beneath(arguments.get("path", "."))
        recursive = bool(arguments.get("recursive", False))

        def walk() -> _Listing:
            workspace = setting.directory()
            try:
                listing = _Listing()
                _walk(workspace, path, "", listing, depth=MAX_DEPTH if recursive else -1)
                return listing
            except NotFound:
                raise NotFound(f"There is no {shown(path)}.") from None
            finally:
                workspace.close()

        listing = await setting.workers.run(walk)
        if not listing.lines:
            return ToolOutcome(f"{shown(path)} is empty.")
        content = await fitted("\n".join(listing.lines).encode(), setting)
        if listing.cut:
            content += f"\n[Cut: at most {MAX_ENTRIES} entries and {MAX_DEPTH} levels are listed.]"
        return ToolOutcome(content)


@dataclass(slots=True)
class _Listing:
    lines: list[str] = field(default_factory=list)
    cut: bool = False


def _walk(workspace: TenantRoot, path: str, prefix: str, listing: _Listing, *, depth: int) -> None:
    """List ``path``, and ``depth`` levels below it; a negative one is for a list that is not recursive."""
    directory = workspace.directory(path)
    try:
        with os.scandir(directory.fd) as scan:
            names = [entry.name for entry in islice(scan, _SCANNED)]
        listing.cut = listing.cut or len(names) == _SCANNED
        for name in sorted(names):
            if len(listing.lines) >= MAX_ENTRIES:
                listing.cut = True
                return
            try:
                info = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            label = prefix + safe(os.fsencode(name)).replace("\n", "\\x0a").replace("\t", "\\x09")
            listing.lines.append(_line(label, info))
            if stat.S_ISDIR(info.st_mode) and prefix + name != ".carrel":
                _inside(workspace, f"{path}/{name}", f"{label}/", listing, depth)
    finally:
        directory.close()


def _inside(workspace: TenantRoot, path: str, prefix: str, listing: _Listing, depth: int) -> None:
    if depth <= 0:
        listing.cut = listing.cut or depth == 0
        return
    try:
        _walk(workspace, path, prefix, listing, depth=depth - 1)
    except CarrelError:
        listing.lines.append(f"{prefix} (cannot be listed)")


def _line(label: str, info: os.stat_result) -> str:
    if stat.S_ISDIR(info.st_mode):
        return f"{label}/"
    if stat.S_ISLNK(info.st_mode):
        return f"{label}@"
    if stat.S_ISREG(info.st_mode):
        return f"{label}  {info.st_size}"
    return f"{label}  (no plain file)"
