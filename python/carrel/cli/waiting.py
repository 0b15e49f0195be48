"""That an answer is still waited for: told on a terminal once it takes longer than a second, and wiped away after."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TextIO

AFTER_SECONDS: Final = 1.0
_WIPE: Final = "\r\x1b[K"


@asynccontextmanager
async def told_when_slow(*, out: TextIO | None = None, after: float = AFTER_SECONDS) -> AsyncIterator[None]:
    """Say on ``out`` (standard error by default), where it is a terminal, for how many seconds it has been waited."""
    stream = out if out is not None else sys.stderr
    if not stream.isatty():
        yield
        return
    telling = asyncio.get_running_loop().create_task(_tell(stream, after), name="waiting")
    try:
        yield
    finally:
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling


async def _tell(stream: TextIO, after: float) -> None:
    await asyncio.sleep(after)
    seconds = after
    try:
        while True:
            stream.write(f"{_WIPE}waiting for the gateway, {seconds:.0f} s")
            stream.flush()
            await asyncio.sleep(1)
            seconds += 1
    finally:
        stream.write(_WIPE)
        stream.flush()
