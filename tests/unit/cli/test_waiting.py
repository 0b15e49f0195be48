import asyncio
import io

from carrel.cli.waiting import told_when_slow


class Terminal(io.StringIO):
    """A terminal that says when something was written to it."""

    def __init__(self, *, is_one: bool = True) -> None:
        super().__init__()
        self.is_one = is_one
        self.written = asyncio.Event()

    def isatty(self) -> bool:
        return self.is_one

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)


async def test_what_takes_long_is_told_and_wiped_away() -> None:
    terminal = Terminal()
    async with told_when_slow(out=terminal, after=0.01):
        await asyncio.wait_for(terminal.written.wait(), 30)
    text = terminal.getvalue()
    assert "waiting for the gateway" in text
    assert text.endswith("\r\x1b[K")


async def test_what_is_quick_or_goes_to_no_terminal_is_not_told() -> None:
    quick, pipe = Terminal(), Terminal(is_one=False)
    async with told_when_slow(out=quick, after=60):
        pass
    async with told_when_slow(out=pipe, after=0):
        await asyncio.sleep(0.02)
    assert quick.getvalue() == pipe.getvalue() == ""
