"""How tests wait: for the thing itself, and so long that only a real fault gets to the end of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")
PATIENCE: Final = 60.0
"""Seconds. A machine that runs many things at once may stand still for some of them."""
_PAUSE: Final = 0.01


async def soon(awaited: Awaitable[T]) -> T:
    """What ``awaited`` gives; raises TimeoutError where that does not come at all."""
    return await asyncio.wait_for(awaited, PATIENCE)


async def eventually(true: Callable[[], object]) -> None:
    """Go on when ``true()`` is; raises TimeoutError where it never is."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(_PAUSE)


def until(true: Callable[[], object], *, seconds: float = PATIENCE, pause: float = _PAUSE) -> bool:
    """Whether ``true()`` comes to be so, asked every ``pause`` seconds: for tests without a loop."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
