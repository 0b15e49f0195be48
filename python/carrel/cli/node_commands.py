"""What a node does for those who ask: notes on the terminal, commands, files. Each only as its owner allows it."""

import asyncio
import os
import shutil
import stat
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from carrel.cli import screen
from carrel.errors import CarrelError, InvalidRequest
from carrel.tenancy.paths import TenantRoot

MOST_OUTPUT: Final = 256 * 1024
MOST_FILE: Final = 4 << 20
MOST_ENTRIES: Final = 2000
RUN_SECONDS: Final = 600.0
COMMANDS: Final = ("notify", "run", "file.read", "file.write", "file.list")
"""All that a node can be asked."""


class NotAllowed(CarrelError):
    """The node's owner did not allow it."""

    code = "not_allowed"


@dataclass
class Owner:
    """Who decides what is done: what is ``allowed`` beforehand, and a person at the terminal for the rest."""

    allowed: frozenset[str] = frozenset()
    asks: bool = field(default_factory=sys.stdin.isatty)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def agree(self, command: str, what: str) -> None:
        """Return where it may be done; raises NotAllowed."""
        if command in self.allowed:
            screen.note(f"{command}: {what}")
            return
        if not self.asks:
            raise NotAllowed(f"The owner of this node did not allow {command!r} (--allow {command}).")
        async with self._one_at_a_time:
            said = await asyncio.to_thread(input, f"{command}: {what}\nAllow this once? [y/N] ")
        if said.strip().lower() not in ("y", "yes"):
            raise NotAllowed(f"The owner of this node did not allow this {command}.")


class Doer:
    """Does what is asked, files beneath ``root`` alone."""

    def __init__(self, owner: Owner, root: Path) -> None:
        self._owner = owner
        self._root = root

    async def do(self, command: str, params: Mapping[str, Any]) -> Any:
        """The answer to ``command``; raises CarrelError."""
        work: dict[str, Callable[[Mapping[str, Any]], Awaitable[Any]]] = {
            "notify": self._notify, "run": self._run, "file.read": self._read, "file.write": self._write,
            "file.list": self._list,
        }  # fmt: skip
        if command not in work:
            raise InvalidRequest(f"This node does not know {command[:80]!r}.")
        return await work[command](params)

    async def _notify(self, params: Mapping[str, Any]) -> Any:
        title, body = _text(params, "title", ""), _text(params, "body")
        await self._owner.agree("notify", screen.one_line(f"{title} {body}".strip()))
        screen.say(screen.one_line(f"* {title}: {body}" if title else f"* {body}"))
        program = shutil.which("notify-send") if os.environ.get("DISPLAY") else None
        if program is not None:
            shown = await asyncio.create_subprocess_exec(program, "--", title or "carrel", body)
            await shown.wait()
        return {"shown": True}

    async def _run(self, params: Mapping[str, Any]) -> Any:
        argv = params.get("argv")
        if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
            raise InvalidRequest("`argv` is a list of words.", param="argv")
        seconds = params.get("timeoutSeconds", RUN_SECONDS)
        if not isinstance(seconds, int | float) or not 0 < seconds <= RUN_SECONDS:
            raise InvalidRequest(f"`timeoutSeconds` is up to {RUN_SECONDS:g}.", param="timeoutSeconds")
        await self._owner.agree("run", screen.one_line(" ".join(argv)))
        return await _ran(argv, self._root, seconds)

    async def _read(self, params: Mapping[str, Any]) -> Any:
        path = _text(params, "path")
        await self._owner.agree("file.read", screen.one_line(path))
        data = await asyncio.to_thread(self._in_root, lambda root: root.read(path, limit=MOST_FILE))
        return {"path": path, "content": data.decode("utf-8", "replace"), "size": len(data)}

    async def _write(self, params: Mapping[str, Any]) -> Any:
        path, content = _text(params, "path"), _text(params, "content").encode("utf-8", "replace")
        if len(content) > MOST_FILE:
            raise InvalidRequest(f"A file has at most {MOST_FILE} bytes.", param="content")
        await self._owner.agree("file.write", screen.one_line(f"{path} ({len(content)} bytes)"))
        await asyncio.to_thread(self._in_root, lambda root: root.replace(path, content))
        return {"path": path, "size": len(content)}

    async def _list(self, params: Mapping[str, Any]) -> Any:
        path = _text(params, "path", ".")
        await self._owner.agree("file.list", screen.one_line(path))

        def entries(root: TenantRoot) -> list[dict[str, Any]]:
            found = sorted(root.entries(path), key=lambda entry: entry[0])[:MOST_ENTRIES]
            return [
                {"name": name, "kind": "directory" if stat.S_ISDIR(info.st_mode) else "file", "size": info.st_size}
                for name, info in found
            ]

        return {"path": path, "entries": await asyncio.to_thread(self._in_root, entries)}

    def _in_root(self, work: Callable[[TenantRoot], Any]) -> Any:
        root = TenantRoot.open(self._root)
        try:
            return work(root)
        finally:
            root.close()


async def _ran(argv: Sequence[str], where: Path, seconds: float) -> Any:
    """Run a program to its end or its time's; all that it started ends with it."""
    try:
        program = await asyncio.create_subprocess_exec(
            *argv, cwd=where, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise InvalidRequest(f"{argv[0]!r} cannot be run: {error.strerror}.", param="argv") from None
    output, over = bytearray(), False
    try:
        async with asyncio.timeout(seconds):
            while program.stdout is not None and (piece := await program.stdout.read(65_536)):
                output += piece[: max(0, MOST_OUTPUT - len(output))]
            await program.wait()
    except TimeoutError:
        over = True
    finally:
        _end(program.pid)
        await program.wait()
    text = output.decode("utf-8", "replace")
    return {"exitCode": program.returncode, "output": text, "timedOut": over, "cut": len(output) >= MOST_OUTPUT}


def _end(group: int) -> None:
    try:
        os.killpg(group, 9)
    except (ProcessLookupError, PermissionError):
        return


def _text(params: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = params.get(name, default)
    if not isinstance(value, str):
        raise InvalidRequest(f"`{name}` is text.", param=name)
    return value
