"""`carrel audit`: the record's last lines, and whether it is whole."""

from pathlib import Path

from carrel.audit.log import Audit
from carrel.clock import SystemClock
from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine


async def test_tail_shows_the_last_lines(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("audit", "tail", "-n", "3")
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()] == ["7", "8", "9"]
    assert len((await carrel("audit", "tail")).out.splitlines()) == 10
    assert (await carrel("audit", "tail", "-n", "0")).out == ""


async def test_tail_of_one_tenant_in_json(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("audit", "tail", "--tenant", "acme", "--lines", "1", "--json")
    assert done.json() == {"n": 9, "tenant": "acme"}


async def test_tail_takes_no_negative_number(carrel: CommandLine, edge: Edge) -> None:
    assert (await carrel("audit", "tail", "--lines", "-1")).code == 2


async def record(state: Path) -> Path:
    audit = Audit(state_dir=state, clock=SystemClock())
    await audit.start()
    for number in range(3):
        await audit.record(actor="uid:0", action="tenants.create", target=f"t{number}", outcome="ok", request_id="r")
    return next((state / "audit").glob("*.jsonl"))


async def test_verify_reads_the_files_where_no_gateway_runs(carrel: CommandLine, tmp_path: Path) -> None:
    file = await record(tmp_path)
    words = ("audit", "verify", "--state-dir", str(tmp_path))
    whole = await carrel(*words)
    assert (whole.code, whole.out.split(":")[0]) == (0, "The record is whole")
    text = file.read_text()
    file.chmod(0o600)
    file.write_text(text.replace('"t1"', '"tx"'))
    edited = await carrel(*words)
    assert edited.code == 1
    assert "2" in edited.err
    assert (await carrel(*words, "--json")).json()["ok"] is False


async def test_verify_of_nothing_is_told(carrel: CommandLine, tmp_path: Path) -> None:
    done = await carrel("audit", "verify", "--state-dir", str(tmp_path / "none"))
    assert done.code == 1
    assert "--state-dir" in done.err
