from typing import Any

from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine


async def test_those_that_run(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("sandboxes", "list")
    assert done.code == 0, done.err
    assert done.out.splitlines()[1].split() == [
        "sb_1", "acme", "main", "sandbox", "2026-03-01", "00:00Z", "2026-03-01", "01:00Z", "3", "1"
    ]  # fmt: skip
    assert (await carrel("sandboxes", "list", "--tenant", "acme", "--json")).json()["sandboxes"][0]["id"] == "sb_1"
    done = await carrel("sandboxes", "list", "--tenant", "bravo")
    assert (done.code, done.out, done.err) == (0, "", "No sandbox is kept now.\n")


async def test_a_command_in_one(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("sandboxes", "exec", "acme", "sb_1", "--", "true", "--flag")
    assert (done.code, done.out, done.err) == (0, "('true', '--flag')\n", "careful\n")
    done = await carrel("sandboxes", "exec", "acme", "sb_1", "--timeout", "3", "--", "false")
    assert done.code == 1
    assert "killed: wall_clock" in done.err
    assert (await carrel("sandboxes", "exec", "acme", "sb_1", "--json", "--", "true")).json()["exit_code"] == 0
    done = await carrel("sandboxes", "exec", "acme", "sb_1")
    assert done.code == 2
    assert "after `--`" in done.err
    assert (await carrel("sandboxes", "exec", "acme", "sb_1", "--timeout", "0", "--", "true")).code == 2


async def test_what_was_written_cannot_act_on_a_terminal(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("sandboxes", "logs", "acme", "sb_1")
    assert done.code == 0
    assert "\x1b" not in done.out
    assert (await carrel("sandboxes", "logs", "acme", "sb_1", "--json")).json()["id"] == "sb_1"


async def test_an_end(carrel: CommandLine, edge: Edge) -> None:
    assert (await carrel("sandboxes", "stop", "acme", "sb_1")).out == "sb_1 is stopped.\n"
    assert (await carrel("sandboxes", "stop", "acme", "sb_1", "--json")).json() == {"id": "sb_1", "stopped": True}
    sandboxes: Any = edge.services.sandboxes
    assert len(sandboxes.stopped) == 2
    done = await carrel("sandboxes", "stop", "acme", "sb_2")
    assert (done.code, done.out) == (1, "")
    assert "No such sandbox" in done.err
    for words in (("stop", "acme", ""), ("logs", "acme", ""), ("exec", "acme", "", "--", "true")):
        done = await carrel("sandboxes", *words)
        assert (done.code, "is missing" in done.err) == (2, True)


async def test_how_a_signal_ended_it_is_told(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("sandboxes", "exec", "acme", "sb_1", "--", "crash")
    assert (done.code, "ended by signal 11" in done.err) == (1, True)


async def test_those_of_nobody(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("sandboxes", "list", "--tenant", "acmee")
    assert (done.code, "did you mean acme?" in done.err) == (1, True)
