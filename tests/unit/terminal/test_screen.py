"""One terminal: who looks keeps its pace, what is typed waits within a bound, and its end is told to everybody."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from carrel.clock import SystemClock
from carrel.declare.tenant import SandboxConfig
from carrel.errors import InvalidRequest, RateLimited
from carrel.sandbox.protocol import Job, Size
from carrel.terminal.screen import (
    BURST,
    FLOOD,
    LONGEST_PAUSE_SECONDS,
    MOST_PENDING,
    MOST_VIEWERS,
    PAUSE_SECONDS,
    SMALL,
    STALL_SECONDS,
    WINDOW,
    End,
    Screen,
)
from tests.fakes.clock import FakeClock
from tests.fakes.patience import eventually, soon
from tests.fakes.sandbox import HOST, FakeSandbox
from tests.fakes.tenants import make_tenant


@dataclass(eq=False)
class Eye:
    """Keeps what it is shown; ``screen`` is told at once that it was, where there is one."""

    screen: Screen | None = None
    text: bytes = b""
    at: list[int] = field(default_factory=list)
    end: End | None = None
    was_dropped: bool = False

    def output(self, at: int, data: bytes) -> None:
        self.at.append(at)
        self.text += data
        if self.screen is not None:
            asyncio.get_running_loop().call_soon(self.screen.seen, self, at + len(data))

    def ended(self, end: End) -> None:
        self.end = end

    def dropped(self) -> None:
        self.was_dropped = True


@asynccontextmanager
async def a_screen(
    path: Path, command: str, clock: SystemClock | FakeClock | None = None
) -> AsyncIterator[tuple[Screen, "asyncio.Task[End]"]]:
    tenant, now = make_tenant(path), (clock or SystemClock()).monotonic
    tenant.root.directory("sandbox", create=True).close()
    job = Job(("/bin/bash", "-c", command), SandboxConfig(wall_seconds=120.0), HOST)
    async with FakeSandbox().pty(tenant, job, Size(80, 24)) as pty:
        screen = Screen("term_1", tenant, "me", pty, Size(80, 24), datetime(2026, 3, 1, tzinfo=UTC), now)
        running = asyncio.ensure_future(screen.run())
        yield screen, running
        screen.stop("closed")
        await soon(asyncio.wait([running]))
    tenant.root.close()


async def test_what_is_typed_is_read_and_what_is_shown_is_seen(tmp_path: Path) -> None:
    async with a_screen(tmp_path, "read -r a; echo got $a; exit 5") as (screen, running):
        eye = Eye(screen)
        assert screen.attach(eye, after=None) == 0
        assert screen.write(b"one\n") == 0
        assert await soon(asyncio.shield(running)) == End("exit", 5, None)
        assert eye.text.endswith(b"got one\r\n")
        assert eye.end == End("exit", 5, None)
        assert (screen.bytes_in, screen.bytes_out) == (4, len(eye.text))
        with pytest.raises(InvalidRequest, match="ended"):
            screen.write(b"x")


async def test_who_comes_back_is_shown_what_there_was(tmp_path: Path) -> None:
    async with a_screen(tmp_path, "echo first; read -r a; echo second; read -r a") as (screen, _):
        eye = Eye(screen)
        screen.attach(eye, after=None)
        await eventually(lambda: b"first" in eye.text)
        screen.detach(eye)
        screen.write(b"\n")
        await eventually(lambda: b"second" in screen._ring.since(0, 1000)[1])
        again, part = Eye(screen), Eye(screen)
        screen.attach(again, after=None)
        assert screen.attach(part, after=7) == 7
        await eventually(lambda: b"second" in again.text and b"second" in part.text)
        assert again.text[7:] == part.text


async def test_nothing_is_read_while_somebody_is_a_window_behind(tmp_path: Path) -> None:
    async with a_screen(tmp_path, "yes 0123456789") as (screen, _):
        slow, quick = Eye(), Eye(screen)
        screen.attach(slow, after=None)
        screen.attach(quick, after=None)
        await eventually(lambda: len(slow.text) >= WINDOW)
        await eventually(lambda: not screen._reading and screen._pause is None)
        stood = screen.bytes_out
        assert stood <= WINDOW + 2 * BURST
        await asyncio.sleep(0.1)
        assert screen.bytes_out == stood
        screen.seen(slow, len(slow.text))
        await eventually(lambda: screen.bytes_out > stood)
        screen.detach(slow)
        await eventually(lambda: screen.bytes_out > stood + 2 * WINDOW)


async def test_who_does_not_move_is_dropped_and_the_others_go_on(tmp_path: Path) -> None:
    clock = FakeClock()
    async with a_screen(tmp_path, "yes 0123456789", clock) as (screen, _):
        slow = Eye()
        screen.attach(slow, after=None)
        await eventually(lambda: not screen._reading and screen._pause is None and len(slow.text) >= WINDOW)
        screen.drop_stalled()
        assert screen.viewers == 1
        clock.advance(STALL_SECONDS + 1)
        screen.drop_stalled()
        assert slow.was_dropped
        assert screen.viewers == 0


async def test_the_rest_is_shown_after_the_end_to_who_is_behind(tmp_path: Path) -> None:
    async with a_screen(tmp_path, "head -c 400000 /dev/zero | tr '\\0' x; echo the end") as (screen, running):
        eye = Eye()
        screen.attach(eye, after=None)
        while not running.done():
            await asyncio.sleep(0.01)
            screen.seen(eye, len(eye.text))
        for _ in range(10):
            screen.seen(eye, len(eye.text))
        assert eye.text.endswith(b"the end\r\n")
        assert len(eye.text) == 400_009
        assert eye.end is not None


async def test_what_is_typed_and_not_read_is_bounded_and_an_interrupt_drops_it(tmp_path: Path) -> None:
    command = "trap 'echo caught' INT; stty raw isig -echo; echo ready; while :; do sleep 0.05; done"
    async with a_screen(tmp_path, command) as (screen, _):
        eye = Eye(screen)
        screen.attach(eye, after=None)
        await eventually(lambda: b"ready" in eye.text)
        assert screen.write(b"x" * 500_000) > 0
        with pytest.raises(RateLimited, match="does not read"):
            screen.write(b"x" * MOST_PENDING)
        screen.write(b"\x03")
        assert bytes(screen._pending) in (b"", b"\x03")


async def test_a_paste_comes_in_whole(tmp_path: Path) -> None:
    async with a_screen(tmp_path, "stty raw -echo; echo ready; head -c 300000 | wc -c") as (screen, _):
        eye = Eye(screen)
        screen.attach(eye, after=None)
        await eventually(lambda: b"ready" in eye.text)
        screen.write(b"y" * 300_000)
        await eventually(lambda: b"300000" in eye.text)


async def test_reading_waits_for_something(tmp_path: Path) -> None:
    async with a_screen(tmp_path, "read -r a; echo came") as (screen, _):
        assert await screen.read(0, most=100, wait=0) == (0, b"")
        waiting = asyncio.ensure_future(screen.read(2, most=100, wait=60))
        screen.write(b"\n")
        assert (await soon(waiting))[0] == 2
        assert await screen.read(10_000, most=100, wait=0.01) == (10_000, b"")


async def test_a_flood_rests_the_longer_the_later_the_loop_is(tmp_path: Path) -> None:
    async with a_screen(tmp_path, "sleep 60") as (screen, _):
        for late, pace in ((0.0, PAUSE_SECONDS), (0.005, 0.04), (5.0, LONGEST_PAUSE_SECONDS), (0.0, PAUSE_SECONDS)):
            screen._due = asyncio.get_running_loop().time() - late
            screen._paused()
            assert screen._pace >= pace
            assert screen._pace <= LONGEST_PAUSE_SECONDS


async def test_a_flood_rests_by_its_bytes_however_idle_the_loop_is(tmp_path: Path) -> None:
    async with a_screen(tmp_path, "sleep 60") as (screen, _):
        eye = Eye(screen)
        screen.attach(eye, after=None)
        for size, seconds in ((BURST, BURST / FLOOD), (2 * SMALL, PAUSE_SECONDS), (SMALL, 0.0)):
            screen._burst = partial(bytes, size)  # type: ignore[method-assign]
            screen._due = before = asyncio.get_running_loop().time()
            screen._readable()
            assert screen._due >= before + seconds
            if screen._pause is not None:
                screen._pause.cancel()
                screen._pause = None
        assert len(eye.text) == BURST + 3 * SMALL


async def test_no_more_look_than_may(tmp_path: Path) -> None:
    async with a_screen(tmp_path, "sleep 60") as (screen, _):
        eyes = [Eye(screen) for _ in range(MOST_VIEWERS)]
        for eye in eyes:
            screen.attach(eye, after=None)
        screen.attach(eyes[0], after=None)
        with pytest.raises(RateLimited, match="look at this"):
            screen.attach(Eye(), after=None)
        assert isinstance(await screen.pid(), int)


async def test_why_it_ended_is_said(tmp_path: Path) -> None:
    async with a_screen(tmp_path, "sleep 60") as (screen, running):
        screen.stop("idle")
        assert (await soon(asyncio.shield(running))).reason == "idle"
        assert await screen.pid() is None
        late = Eye()
        screen.attach(late, after=None)
        await eventually(lambda: late.end is not None)
    assert os.listdir(tmp_path)
