"""How far work is that a gateway takes long for: looked at beside the question, and shown while its answer is out."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from carrel.cli import screen
from carrel.cli.client import Client
from carrel.cli.options import Target
from carrel.errors import CarrelError

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

LOOK_SECONDS: Final = 0.5
Unit = Literal["bytes", "rows"]


@dataclass(frozen=True, slots=True)
class At:
    """How far it is: ``done`` of ``total``, which is 0 while it is not known. ``document`` is what the gateway says."""

    phase: str
    done: int
    total: int
    document: Any


Shows = Callable[[At], None]


@asynccontextmanager
async def looking(
    client: Client, path: str, read: Callable[[Any], At | None], target: Target, *, unit: Unit
) -> AsyncIterator[None]:
    """Look at ``path`` until this is left. ``read`` makes of what is there how far it is, None where nothing runs."""
    with _shown(target, unit) as show:
        task = asyncio.get_running_loop().create_task(_look(client, path, read, show), name="progress")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _look(client: Client, path: str, read: Callable[[Any], At | None], show: Shows) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            at = read(await client.get(path))
        except CarrelError:
            # What was asked for says itself what is wrong.
            return
        if at is not None:
            show(at)


@contextmanager
def _shown(target: Target, unit: Unit) -> Iterator[Shows]:
    """How far it is: JSON lines on stderr with `--json`, a bar on a terminal, nothing elsewhere."""
    if target.json:
        yield lambda at: screen.show_json({"progress": at.document}, indent=None, out=sys.stderr)
        return
    if not sys.stderr.isatty():
        yield lambda at: None
        return
    from rich.console import Console  # noqa: PLC0415 - heavy, and only for a terminal
    from rich.progress import (  # noqa: PLC0415 - as above
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    much: ProgressColumn = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), much, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("waiting", total=None)

        def show(at: At) -> None:
            bar.update(task, description=at.phase, total=at.total or None, completed=at.done)

        yield show
