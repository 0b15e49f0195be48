"""The gateway's end of the launcher: one process, started when needed, lost loudly, started anew."""

import asyncio
import os

import pytest

from carrel.errors import SandboxUnavailable
from carrel.sandbox.launcher.packets import memory
from carrel.sandbox.link import LOST, Link
from tests.fakes.sandboxed import LAUNCH_UID


async def test_the_launcher_is_not_started_before_it_is_needed() -> None:
    link = Link(files=[], launch_uid=LAUNCH_UID)
    assert link.pid is None
    await link.close()


async def test_an_order_that_cannot_be_followed_is_answered(tmp_path: object) -> None:
    link = Link(files=[b"one", b"two"], launch_uid=LAUNCH_UID)
    fds = [memory("order", b"not json"), *(os.open("/dev/null", os.O_RDWR) for _ in range(4))]
    try:
        _, ending = await link.run(fds)
        with pytest.raises(SandboxUnavailable, match="could not be started"):
            await ending
        assert link.pid is not None
    finally:
        for fd in fds:
            os.close(fd)
        await link.close()
    assert link.pid is None


@pytest.mark.skipif(LAUNCH_UID is None, reason="only root can try what root must not do")
async def test_a_launcher_that_would_be_root_does_not_start() -> None:
    link = Link(files=[])
    with pytest.raises(SandboxUnavailable, match="does not start"):
        await link.run([])
    await link.close()


async def test_killing_what_has_ended_is_nothing() -> None:
    link = Link(files=[], launch_uid=LAUNCH_UID)
    link.kill(7)
    await link.close()
    link.kill(7)


async def test_closing_ends_what_waits() -> None:
    link = Link(files=[], launch_uid=LAUNCH_UID)
    pid = await _start(link)
    waiting: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    link._endings[99] = waiting  # type: ignore[assignment]
    await link.close()
    assert await waiting == LOST
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def _start(link: Link) -> int:
    await link._started()
    assert link.pid is not None
    return link.pid
