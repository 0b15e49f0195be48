"""`carrel terminal`, in a process of its own on a real terminal, against a running edge."""

import asyncio
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from carrel.cli.attached import Ended, Lost
from carrel.cli.failures import Refused, WrongUsage
from carrel.cli.terminal import _control, _told
from tests.fakes.edge import Edge
from tests.fakes.patience import eventually
from tests.fakes.terminals import Screen
from tests.unit.cli.conftest import CommandLine

PROGRAM = "import sys; from carrel.cli.app import *; sys.exit(execute(build_app(lambda options: 0)))"

CTTY = ("/usr/bin/setsid", "--ctty")


class Typing(Screen):
    """`carrel WORDS` on a terminal that the test types at."""

    def __init__(self, master: int, process: "subprocess.Popen[bytes]") -> None:
        super().__init__(master)
        self.process = process
        self.master = master

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    async def status(self) -> int:
        await eventually(lambda: self.process.poll() is not None)
        return int(self.process.returncode)


@asynccontextmanager
async def typing(edge: Edge, *words: str) -> AsyncIterator[Typing]:
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    process = await asyncio.to_thread(
        subprocess.Popen,
        [*CTTY, sys.executable, "-c", PROGRAM, *words, "--state-dir", str(edge.socket_path.parent)],
        stdin=slave, stdout=slave, stderr=slave,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    try:
        with Typing(master, process) as screen:
            screen.resize(91, 29)
            yield screen
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
        os.close(slave)
        os.close(master)


async def test_a_shell_on_this_terminal_and_its_status(edge: Edge, carrel: CommandLine, tmp_path: Path) -> None:
    cast = tmp_path / "made.cast"
    async with typing(edge, "terminal", "acme", "--record", str(cast)) as screen:
        await screen.shows("leaves it running")
        screen.types("stty size; echo grüß d''ich\r")
        await screen.shows("grüß dich\r\n")
        assert b"29 91" in screen.text
        screen.types("until stty size | grep '20 70'; do sleep 0.1; done; sleep 1000\r")
        screen.resize(70, 20)
        await screen.shows("20 70\r\n")
        screen.types("\x03")
        await screen.shows("^C")
        screen.types("exit 7\r")
        assert await screen.status() == 7
    lines = cast.read_text().splitlines()
    assert json.loads(lines[0])["version"] == 2
    told = [json.loads(line) for line in lines[1:]]
    assert "grüß dich" in "".join(text for _, kind, text in told if kind == "o")
    assert [text for _, kind, text in told if kind == "r"] == ["70x20"]


async def test_it_is_left_listed_and_come_back_to(edge: Edge, carrel: CommandLine) -> None:
    assert (await carrel("terminal", "acme", "--list")).err == "No terminal runs.\n"
    async with typing(edge, "terminal", "acme", "--detach-key", "ctrl-a") as screen:
        await screen.shows("Ctrl-A leaves it running")
        screen.types("KEPT=k''ept; echo be''fore\r")
        await screen.shows("before\r\n")
        screen.types("\x01")
        await screen.shows("comes back")
        assert await screen.status() == 0
    (one,) = (await carrel("terminal", "acme", "--list", "--json")).json()["sessions"]
    assert one["terminalId"] in (await carrel("terminal", "acme", "--list")).out
    async with typing(edge, "terminal", "acme", "--attach", one["terminalId"]) as screen:
        await screen.shows("before\r\n")
        screen.types("echo $KEPT-1; exit 1\r")
        await screen.shows("kept-1\r\n")
        assert await screen.status() == 1


async def test_what_cannot_be_is_said(edge: Edge, carrel: CommandLine) -> None:
    done = await carrel("terminal", "acme")
    assert (done.code, "needs a terminal" in done.err) == (2, True)
    async with typing(edge, "terminal", "nobody") as screen:
        assert await screen.status() == 1
        await screen.shows("No such tenant")
    async with typing(edge, "terminal", "acme", "--attach", f"term_{0:024x}") as screen:
        assert await screen.status() == 1
        await screen.shows("No such terminal")
    async with typing(edge, "terminal", "acme", "--attach", "x", "--shell", "sh") as screen:
        assert await screen.status() == 2


@pytest.mark.parametrize(("text", "byte"), [("ctrl-]", b"\x1d"), ("ctrl-a", b"\x01"), ("Ctrl-\\", b"\x1c")])
def test_keys_that_leave(text: str, byte: bytes) -> None:
    assert _control(text) == byte


@pytest.mark.parametrize("text", ["a", "ctrl-", "ctrl-ab", "ctrl-1", "alt-x"])
def test_keys_that_do_not(text: str) -> None:
    with pytest.raises(WrongUsage, match="detach-key"):
        _control(text)


def test_how_it_ended_is_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert _told("acme", "term_1", None) == 0
    assert _told("acme", "term_1", Ended("exit", 0, None)) == 0
    assert _told("acme", "term_1", Ended("exit", None, 15)) == 143
    assert _told("acme", "term_1", Ended("idle", None, 9)) == 137
    assert "The terminal ended: idle." in capsys.readouterr().err
    with pytest.raises(Refused, match="goes on: `carrel terminal acme --attach term_1`"):
        _told("acme", "term_1", Lost("the gateway stops"))
