"""Recordings are asciicasts, are bounded, and hold nothing that was typed."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carrel.declare.tenant import TerminalConfig
from carrel.errors import NotFound
from carrel.sandbox.protocol import Size
from carrel.tasks import Tasks
from carrel.terminal.recording import Recording, read_recording, recordings
from tests.fakes.tenants import make_tenant

MOMENT = datetime(2026, 3, 1, tzinfo=UTC)


def ident(number: int) -> str:
    return f"term_{number:024x}"


async def test_it_is_an_asciicast_of_what_was_shown(tmp_path: Path) -> None:
    tenant, times = make_tenant(tmp_path), iter([0.0, 1.0, 1.5, 2.0, 9.0])
    made = await Recording.begun(tenant, ident(1), Size(80, 24), moment=MOMENT, now=lambda: next(times))
    made.output("grüß".encode()[:3])
    made.output("grüß".encode()[3:])
    made.resized(Size(100, 30))
    await made.close()
    data, size = read_recording(tenant.root, ident(1), offset=0, most=1 << 20)
    assert size == len(data)
    head, *events = [json.loads(line) for line in data.splitlines()]
    assert (head["version"], head["width"], head["height"], head["timestamp"]) == (2, 80, 24, 1772323200)
    assert events == [[1.0, "o", "gr"], [1.5, "o", "üß"], [2.0, "r", "100x30"]]
    assert read_recording(tenant.root, ident(1), offset=5, most=3)[0] == data[5:8]


async def test_it_is_written_along_and_no_longer_than_it_may_be(tmp_path: Path) -> None:
    tenant, tasks = make_tenant(tmp_path, terminal=TerminalConfig(record_bytes=100)), Tasks("test")
    made = await Recording.begun(tenant, ident(1), Size(80, 24), moment=MOMENT, now=lambda: 0.0)
    made.write_along(tasks)
    for _ in range(100):
        made.output(b"0123456789")
    await made.close()
    await tasks.close()
    lines = read_recording(tenant.root, ident(1), offset=0, most=1 << 20)[0].splitlines()
    assert 2 < len(lines) < 10
    assert json.loads(lines[-1])[1] == "m"


async def test_the_newest_are_kept(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path, terminal=TerminalConfig(recordings=2))
    assert recordings(tenant.root) == ()
    for number in range(4):
        made = await Recording.begun(tenant, ident(number), Size(80, 24), moment=MOMENT, now=lambda: 0.0)
        await made.close()
    assert {one.terminal_id for one in recordings(tenant.root)} == {ident(2), ident(3)}
    for name in (ident(0), "../config", "term_x"):
        with pytest.raises(NotFound):
            read_recording(tenant.root, name, offset=0, most=10)
