"""What a command writes: kept, counted, shown."""

import asyncio
import os

from carrel.sandbox import output
from carrel.sandbox.output import Output


async def test_both_streams_share_one_limit_and_the_rest_is_counted() -> None:
    shown: list[bytes] = []
    taken = Output(6, on_output=shown.append)
    (out, to_out), (err, to_err) = os.pipe(), os.pipe()
    taken.read_from(out, err)
    os.write(to_out, b"12345")
    os.close(to_out)
    while not taken.stdout:
        await asyncio.sleep(0)
    os.write(to_err, b"abc")
    os.close(to_err)
    await taken.wait(10)
    taken.close()
    assert (bytes(taken.stdout), bytes(taken.stderr), taken.dropped) == (b"12345", b"a", 2)
    assert shown == [b"12345", b"abc"]


async def test_closing_gives_back_what_is_still_open() -> None:
    taken = Output(6)
    (out, to_out), (err, to_err) = os.pipe(), os.pipe()
    taken.read_from(out, err)
    taken.close()
    for fd in (to_out, to_err):
        try:
            os.write(fd, b"x")
        except BrokenPipeError:
            os.close(fd)
        else:
            raise AssertionError("the reading end is still open")


async def test_a_flood_is_told_once() -> None:
    floods: list[int] = []
    taken = Output(0, on_flood=lambda: floods.append(taken.dropped))
    (out, to_out), (err, to_err) = os.pipe(), os.pipe()
    taken.read_from(out, err)

    def pour() -> None:
        piece = b"x" * (1 << 20)
        for _ in range((output.FLOOD >> 20) + 3):
            os.write(to_out, piece)
        os.close(to_out)
        os.close(to_err)

    await asyncio.gather(asyncio.to_thread(pour), taken.wait(60))
    taken.close()
    assert len(floods) == 1
    assert floods[0] > output.FLOOD
