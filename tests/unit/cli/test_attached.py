"""What is typed goes there in order and within a bound, and what is shown comes here and is acknowledged."""

import asyncio
import base64
import gc
import json
import os
import pty
import warnings
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from carrel.cli.attached import Attached, Ended, Keyboard, Lost
from tests.fakes.patience import eventually, soon


class Gateway:
    """A socket whose other side a test plays: it answers calls by ``answers``, and says what it is told to."""

    close_code: int | None = 1000

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self._frames: asyncio.Queue[Any] = asyncio.Queue()
        self.refuse_writes = False

    async def send_str(self, text: str) -> None:
        call = json.loads(text)
        self.calls.append(call)
        if "id" in call:
            refused = self.refuse_writes and call["method"] == "terminal.write"
            answer = {"error": {"message": "no"}} if refused else {"result": {"terminalId": "term_1", "ok": True}}
            self.says({"id": call["id"], **answer})

    def says(self, frame: dict[str, Any]) -> None:
        self._frames.put_nowait(aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, json.dumps(frame), None))

    async def close(self) -> None:
        self._frames.put_nowait(None)

    async def receive(self) -> Any:
        return await self._frames.get()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (frame := await self._frames.get()) is not None:
            yield frame

    def typed(self) -> bytes:
        return b"".join(
            base64.b64decode(c["params"]["data"]) for c in self.calls if c["method"] == "terminal.write"
        )  # fmt: skip


class Here:
    """A terminal, and one held to it."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.reading, self.out = os.pipe()
        self.gateway = Gateway()
        socket: Any = self.gateway
        self.attached = Attached(socket, Keyboard(self.slave), detach=b"\x1d", out=self.out)

    async def begin(self) -> "asyncio.Task[Ended | Lost | None]":
        assert await self.attached.begin(None, {"shell": "sh"}) == "term_1"
        running = asyncio.ensure_future(self.attached.run())
        await asyncio.sleep(0)
        return running

    def close(self) -> None:
        for fd in (self.master, self.slave, self.reading, self.out):
            os.close(fd)


@pytest.fixture
async def here() -> AsyncIterator[Here]:
    made = Here()
    yield made
    made.close()


async def test_output_is_shown_and_acknowledged_and_the_end_is_told(here: Here) -> None:
    running = await here.begin()
    assert [call["method"] for call in here.gateway.calls] == ["terminal.spawn", "terminal.attach"]
    data = base64.b64encode(b"\xff\x00shown").decode()
    here.gateway.says(
        {"method": "terminal.output", "params": {"terminalId": "term_1", "at": 0, "next": 7, "data": data}}
    )
    await eventually(lambda: here.gateway.calls[-1]["method"] == "terminal.ack")
    assert here.gateway.calls[-1]["params"] == {"terminalId": "term_1", "at": 7}
    assert os.read(here.reading, 100) == b"\xff\x00shown"
    here.gateway.says(
        {"method": "terminal.exit",
         "params": {"terminalId": "term_1", "reason": "exit", "exitCode": 3, "signal": None}}
    )  # fmt: skip
    assert await soon(running) == Ended("exit", 3, None)


async def test_what_is_to_be_sent_as_it_ends_leaves_nothing_behind(here: Here) -> None:
    assert await here.attached.begin(None, {}) == "term_1"
    output = {"terminalId": "term_1", "at": 0, "next": 1, "data": base64.b64encode(b"x").decode()}
    end = {"terminalId": "term_1", "reason": "exit", "exitCode": 0, "signal": None}
    here.gateway.says({"method": "terminal.output", "params": output})
    here.gateway.says({"method": "terminal.exit", "params": end})
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert await soon(here.attached.run()) == Ended("exit", 0, None)
        await asyncio.sleep(0)
        gc.collect()
    assert [str(one.message) for one in told] == [], "no line about a call that was never made"


async def test_a_terminal_that_nobody_gave_a_size_is_of_the_usual_one(here: Here) -> None:
    await here.attached.begin(None, {})
    assert os.get_terminal_size(here.slave) == (0, 0)
    shapes = {(call["params"]["cols"], call["params"]["rows"]) for call in here.gateway.calls}
    assert shapes == {(80, 24)}


async def test_the_detach_key_leaves_and_what_was_typed_before_it_is_sent(here: Here) -> None:
    running = await here.begin()
    os.write(here.master, b"ls\x1dmore")
    assert await soon(running) is None
    assert here.gateway.typed() == b"ls"


async def test_what_is_refused_is_sent_again_and_an_interrupt_drops_it(here: Here) -> None:
    running = await here.begin()
    here.gateway.refuse_writes = True
    os.write(here.master, b"paste")
    await eventually(lambda: here.gateway.typed().count(b"paste") >= 2)
    os.write(here.master, b"\x03")
    await eventually(lambda: here.gateway.typed().endswith(b"\x03"))
    here.gateway.refuse_writes = False
    await eventually(lambda: here.attached._sent is None and not here.attached._typed)
    assert here.gateway.typed().endswith(b"\x03")
    os.write(here.master, b"\x1d")
    await soon(running)


async def test_a_lost_connection_is_no_end(here: Here) -> None:
    running = await here.begin()
    here.gateway.close_code = 1001
    await here.gateway.close()
    assert await soon(running) == Lost("the gateway stops")
