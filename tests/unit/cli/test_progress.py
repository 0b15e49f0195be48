"""How far long work is, while its answer is out."""

import asyncio
import json
import sys

import pytest

from carrel.cli import progress
from carrel.metering.recount import Counting
from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine


async def counted(edge: Edge, done: int) -> None:
    """Let a recount be seen some times, and end."""
    edge.meter.counted = Counting(done, 40)
    await asyncio.sleep(0.3)
    assert edge.meter.recounts is not None
    edge.meter.recounts.set()


async def test_in_json_it_is_a_line_each_time_and_the_answer_is_alone(
    carrel: CommandLine, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.01)
    edge.meter.recounts = asyncio.Event()
    done, _ = await asyncio.gather(carrel("billing", "verify", "acme", "--json"), counted(edge, 10))
    assert done.json()["calls"] == 7
    lines = [json.loads(line)["progress"] for line in done.err.splitlines()]
    assert lines[-1]["total"] == 40
    assert lines[-1]["done"] == 10
    assert lines[-1]["eta_seconds"] is None


async def test_on_a_terminal_it_is_a_bar_that_goes(
    carrel: CommandLine, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.01)
    monkeypatch.setenv("TERM", "xterm")
    real = carrel.run

    def on_a_terminal(*words: str):  # type: ignore[no-untyped-def] # as `run`
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        return real(*words)

    monkeypatch.setattr(carrel, "run", on_a_terminal)
    edge.meter.recounts = asyncio.Event()
    done, _ = await asyncio.gather(carrel("billing", "verify", "acme"), counted(edge, 10))
    assert "counting" in done.err
    assert "10/40" in done.err


async def test_elsewhere_nothing_is_told(carrel: CommandLine, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.01)
    edge.meter.recounts = asyncio.Event()
    done, _ = await asyncio.gather(carrel("billing", "verify", "acme"), counted(edge, 10))
    assert "counting" not in done.err
