"""Logs of builds: the last ones, of bounded size, harmless to show."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carrel.packages import logs
from carrel.packages.logs import BuildLog, BuildLogs

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
STATE = "/var/lib/carrel"


@pytest.fixture
def kept(tmp_path: Path) -> BuildLogs:
    return BuildLogs(tmp_path / "logs", hidden=STATE)


def keep(kept: BuildLogs, *names: str, minute: int = 0, line: str = "made") -> None:
    log = kept.begin()
    log.say(line)
    kept.keep(names, log, at=NOW + timedelta(minutes=minute), ended=f"built {minute}")


def test_the_builds_of_a_set_are_told_with_when_and_how(kept: BuildLogs) -> None:
    assert kept.text(["jq"]) == ""
    keep(kept, "jq", "git")
    keep(kept, minute=1)
    assert kept.text(["git", "jq"]) == "== 2026-11-28T12:00:00Z git jq: built 0\nmade\n"
    assert kept.text([]) == "== 2026-11-28T12:01:00Z the base set: built 1\nmade\n"


def test_what_is_written_as_it_goes_stays_where_nobody_comes_to_its_end(kept: BuildLogs) -> None:
    log = kept.begin()
    log.say("halfway")
    kept.write(["jq"], log, at=NOW)
    assert kept.text(["jq"]) == "== 2026-11-28T12:00:00Z jq: the gateway ended before it was over\nhalfway\n"
    log.say("done")
    kept.keep(["jq"], log, at=NOW, ended="built")
    assert kept.text(["jq"]) == "== 2026-11-28T12:00:00Z jq: built\nhalfway\ndone\n"
    assert log.lines == 2


def test_the_last_ones_are_kept(kept: BuildLogs, tmp_path: Path) -> None:
    for minute in range(logs.BUILDS + 3):
        keep(kept, "jq", minute=minute)
    heads = [line for line in kept.text(["jq"]).splitlines() if line.startswith("==")]
    assert [line.rpartition(" ")[2] for line in heads] == [str(minute) for minute in range(3, logs.BUILDS + 3)]
    assert [file.stat().st_mode & 0o777 for file in (tmp_path / "logs").iterdir()] == [0o600] * logs.BUILDS


def test_there_is_an_end_to_all_of_them_together(
    kept: BuildLogs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "FILES", 3)
    for minute in range(5):
        keep(kept, f"p{minute}", minute=minute)
    assert len(list((tmp_path / "logs").iterdir())) == 3
    assert kept.text(["p0"]) == ""
    assert kept.text(["p4"])


def test_a_long_log_has_its_beginning_and_its_end() -> None:
    log = BuildLog()
    for number in range(10_000):
        log.say(f"{number} " + "x" * 1000)
    lines = log.text().splitlines()
    assert lines[0].startswith("0 x")
    assert lines[-1].startswith("9999 x")
    assert lines[logs.HEAD_LINES] == f"… {10_000 - logs.HEAD_LINES - logs.TAIL_LINES} lines …"
    assert max(map(len, lines)) == logs.LINE + 1


def test_nothing_in_it_acts_on_a_terminal_or_tells_where_the_state_is(kept: BuildLogs) -> None:
    keep(kept, "jq", line=f"\x1b]52;c;x\x07 {STATE}/nix/nix/store/x \u202e")
    assert kept.text(["jq"]).splitlines()[1] == "\\x1b]52;c;x\\x07 STATE/nix/nix/store/x \\u202e"


def test_what_cannot_be_kept_stops_no_build(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    keep(BuildLogs(tmp_path / "file" / "logs", hidden=STATE), "jq")
