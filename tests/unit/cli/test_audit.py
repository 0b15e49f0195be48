"""`carrel audit`: the record's last lines, and whether it is whole."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from carrel.audit.log import Audit
from carrel.cli import audit as commands
from carrel.cli.failures import GatewayUnreachable
from carrel.cli.options import Target
from carrel.clock import SystemClock
from tests.fakes.edge import ADMIN_KEY, Edge
from tests.fakes.records import add, three_days
from tests.unit.cli.conftest import CommandLine, started_edge


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


def test_tail_goes_on_where_the_gateway_is_started_anew(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str | None] = []
    away = GatewayUnreachable("No gateway runs.")
    answers: list[Any] = [[{"n": 4}, {"n": 5}], away, away, [{"n": 6}], away, KeyboardInterrupt()]

    def pages(_: Target, given: dict[str, str | None], **limit: int) -> Iterator[dict[str, Any]]:
        if given.get("order") == "newest":
            yield {"n": 3}
            return
        asked.append(given["cursor"])
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        yield from answer

    monkeypatch.setattr(commands, "pages", pages)
    monkeypatch.setattr(commands, "_FOLLOW_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        commands.tail(follow=True, lines=1)
    said = capsys.readouterr()
    assert said.out.split() == ["3", "4", "5", "6"]
    assert said.err.splitlines() == ["No gateway runs. What comes then is shown."] * 2
    assert asked == ["3", "5", "5", "5", "6", "6"]


async def record(state: Path) -> Path:
    audit = Audit(state_dir=state, clock=SystemClock())
    await audit.start()
    for number in range(3):
        await audit.record(actor="uid:0", action="tenants.create", target=f"t{number}", outcome="ok", request_id="r")
    return next((state / "audit").glob("*-*.jsonl"))


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


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Audit]:
    """An edge with a real record of four days, which the command line asks."""
    audit = await three_days(tmp_path)
    await add(audit, "evil\x1b[2J", actor="tk_acme_0123", action="tokens.rotate", outcome="failed: conflict")
    async with started_edge(tmp_path, audit=audit):
        yield audit


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (("T1", "--tenant", "acme"), ["10", "12"]),
        (("--action", "tokens.*"), ["14"]),
        (("--outcome", "failed: conflict", "--actor", "tk_acme_0123"), ["14"]),
        (("--since", "2026-03-02", "--until", "2026-03-03"), ["5", "6", "7", "8"]),
        (("--of", "t9"), ["8"]),
        (("--since", "5m"), []),
        (("-n", "2"), ["13", "14"]),
    ],
)
async def test_search_finds_lines(carrel: CommandLine, kept: Audit, words: tuple[str, ...], numbers: list[str]) -> None:
    done = await carrel("audit", "search", *words)
    assert (done.code, [line.split()[0] for line in done.out.splitlines()]) == (0, numbers), done.err
    assert "\x1b" not in done.out
    if words[0] == "-n":
        assert "There are more before these" in done.err


@pytest.mark.parametrize("when", ["yesterday", "2026-03-01T10:00:00", "9d9"])
async def test_a_time_that_is_none_is_told(carrel: CommandLine, kept: Audit, when: str) -> None:
    done = await carrel("audit", "search", "--since", when)
    assert (done.code, "--since" in done.err) == (2, True)


async def test_an_export_is_the_record_byte_for_byte_and_verifies_elsewhere(
    carrel: CommandLine, kept: Audit, tmp_path: Path
) -> None:
    for words, days in (((), 4), (("--since", "2026-03-02", "--until", "2026-03-03"), 2)):
        copy = tmp_path / f"copy{days}"
        done = await carrel("audit", "export", str(copy), *words)
        assert done.code == 0, done.err
        files = sorted(copy.glob("*-*.jsonl"))
        assert len(files) == days
        for file in files:
            assert file.read_bytes() == (tmp_path / "audit" / file.name).read_bytes()
        whole = await carrel("audit", "verify", "--from", str(copy))
        assert whole.code == 0, whole.err
        files[0].write_bytes(files[0].read_bytes().replace(b"acme", b"acne"))
        assert "was edited" in (await carrel("audit", "verify", "--from", str(copy))).err
    assert (await carrel("audit", "export", str(tmp_path / "copy4"))).code == 1


async def test_the_key_and_a_mark_that_are_kept_elsewhere(carrel: CommandLine, kept: Audit, tmp_path: Path) -> None:
    key, mark = tmp_path / "kept.pub", tmp_path / "kept.mark"
    key.write_text((await carrel("audit", "key")).out)
    mark.write_text((await carrel("audit", "mark")).out)
    assert key.read_text() == (tmp_path / "audit-signing-key.pub").read_text()
    words = ("audit", "verify", "--key", str(key), "--mark", str(mark))
    assert (await carrel(*words)).code == 0
    ends = (tmp_path / "audit" / "heads.jsonl").read_bytes().splitlines(keepends=True)
    day = tmp_path / "audit" / "2026-03-04.jsonl"
    day.unlink()
    (tmp_path / "audit" / "heads.jsonl").write_bytes(b"".join(ends[:2]))
    for end in (tmp_path / "audit" / "head.json", tmp_path / "audit-mark.json"):
        end.write_bytes(ends[2])
    assert (await carrel("audit", "verify")).code == 0
    cut = await carrel(*words)
    assert (cut.code, "lines 13 to 14 were cut off: " + str(mark) in cut.err) == (1, True)


async def test_verify_over_the_wire_sees_the_ends_too(
    carrel: CommandLine, kept: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started_edge(tmp_path / "other", audit=kept) as edge:
        monkeypatch.setenv("CARREL_ADMIN_KEY", ADMIN_KEY)
        words = ("audit", "verify", "--url", edge.url)
        assert (await carrel(*words)).code == 0
        day = tmp_path / "audit" / "2026-03-04.jsonl"
        day.write_bytes(b"".join(day.read_bytes().splitlines(keepends=True)[:1]))
        cut = await carrel(*words)
        assert (cut.code, "line 14 was cut off" in cut.err) == (1, True)
