"""What a command may be, and what is undone of a work that nobody waits for any more."""

import asyncio
import threading

import pytest

from carrel.errors import TooLarge
from carrel.sandbox.command import judge, kept
from tests.fakes.patience import PATIENCE
from tests.fakes.sandboxed import shell


def test_what_no_kernel_would_execute_is_refused() -> None:
    judge(shell("x" * 100_000))
    with pytest.raises(TooLarge, match="write it into a file"):
        judge(shell("x" * (128 << 10)))
    with pytest.raises(TooLarge, match="NUL"):
        judge(shell("a\0b"))


async def test_what_was_made_for_nobody_is_undone() -> None:
    go, undone = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> str:
        go.wait(30)
        return "made"

    def undo(made: str) -> None:
        loop.call_soon(undone.set)

    waiting = asyncio.ensure_future(kept(work, undo))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not undone.is_set()
    go.set()
    async with asyncio.timeout(PATIENCE):
        await undone.wait()


async def test_what_was_made_for_somebody_is_given() -> None:
    undone: list[str] = []
    assert await kept(lambda: "made", undone.append) == "made"
    assert undone == []
