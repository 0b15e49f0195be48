import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.declare.tenant import Member
from carrel.errors import UpstreamError
from carrel.ids import TenantId
from tests.fakes.edge import Edge
from tests.fakes.patience import PATIENCE, eventually
from tests.unit.cli.conftest import CommandLine

PROGRAM = "import sys; from carrel.cli.app import *; sys.exit(execute(build_app(lambda options: 0)))"


async def test_the_answer_and_its_tools(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("chat", "acme", "wait: 0.01")
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        '» shell {"command": "sleep"}', "done", "« shell done in 0.01 s", "You said: wait: 0.01",
    ]  # fmt: skip


async def test_every_event_in_json(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("chat", "acme", "hello", "--session", "mine", "--agent", "main", "--json")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["kind"] for event in events] == ["session", "text", "text", "finished"]
    assert events[0]["session"] == "mine"
    assert edge.agents.turns[0].session_id == "mine"


async def test_an_operator_speaks_as_a_member(carrel: CommandLine, edge: Edge) -> None:
    acme = edge.directory.current.tenant(TenantId("acme"))
    edge.publish(replace(acme, config=acme.config.model_copy(update={"members": (Member(name="ada"),)})))
    assert (await carrel("chat", "acme", "hello", "--member", "ada")).code == 0
    assert edge.agents.members == ["ada"]
    assert (await carrel("chat", "acme", "hello", "--member", "bob")).code == 1


async def test_a_message_may_begin_with_a_hyphen_or_be_read(
    carrel: CommandLine, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await carrel("chat", "acme", "-x is a flag")).out == "You said: -x is a flag\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("run: a\nb\n"))
    assert (await carrel("chat", "acme", "-")).out == "You said: run: a\nb\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("piped"))
    assert (await carrel("chat", "acme")).out == "You said: piped\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert (await carrel("chat", "acme")).code == 2


async def test_what_is_refused(carrel: CommandLine, edge: Edge) -> None:
    assert (await carrel("chat", "nobody", "hi")).code == 1
    assert (await carrel("chat", "acme", "hi", "--agent", "none")).code == 1
    assert (await carrel("chat", "acme", "hi", "--session", "../x")).code == 2
    await carrel("tenants", "suspend", "acme")
    done = await carrel("chat", "acme", "hi", "--json")
    assert json.loads(done.err)["error"]["code"] == "tenant_suspended"


async def test_a_turn_that_fails_midway_is_a_failure(carrel: CommandLine, edge: Edge) -> None:
    edge.agents.error = UpstreamError("The vendor\x1b[2J refused.")
    done = await carrel("chat", "acme", "fail late")
    assert done.code == 1
    assert done.out == "You said: fail late\n"
    assert done.err == "carrel: The vendor refused.\n"
    told = await carrel("chat", "acme", "fail late", "--json")
    assert told.code == 1
    assert json.loads(told.err)["error"]["code"] == "upstream_error"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_a_conversation_stays_in_its_session(
    carrel: CommandLine, edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("one\n\nfail\ntwo\n"))
    edge.agents.error = UpstreamError("The vendor refused.")
    done = await carrel("chat", "acme")
    assert done.code == 0
    assert "You said: one\n" in done.out
    assert "You said: two\n" in done.out
    assert "The vendor refused" in done.err
    assert len({turn.session_id for turn in edge.agents.turns}) == 1
    assert len(edge.agents.turns) == 3


async def test_an_interrupt_stops_the_agent(edge: Edge, tmp_path: Path) -> None:
    process = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", PROGRAM, "chat", "acme", "wait: 3600"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "CARREL_STATE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    assert "shell" in await asyncio.to_thread(process.stdout.readline)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.to_thread(process.communicate, timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert "stopped" in err
    await eventually(lambda: edge.agents.cancelled)
    assert edge.agents.cancelled == 1
