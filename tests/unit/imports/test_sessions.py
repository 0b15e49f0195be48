"""Sessions of both generations, by name, no two of one id, and none from outside."""

from pathlib import Path

from carrel.imports.report import Report
from carrel.imports.sessions import SessionReader
from carrel.imports.source import Source
from tests.fakes.openclaw import GROUP, MAIN, OLD, databases, oldest, put, single


def test_files_with_their_index(tmp_path: Path) -> None:
    report = Report()
    with Source(single(tmp_path / "top")) as source:
        reader = SessionReader(source, report)
        found = {one.id: one for one in (*reader.of("main", "main"), *reader.of("work_bot", "Work_Bot"))}
    assert set(found) == {MAIN, OLD, GROUP}
    assert (found[MAIN].key, found[OLD].key) == ("agent:main:main", None)
    assert (found[GROUP].label, found[GROUP].agent) == ("The team", "work_bot")
    told = {item.name: item for item in report.items}
    assert told["agents/main/sessions/gone.jsonl.deleted.2026-01-02"].outcome == "left"
    assert "is not there" in told["agent:main:lost"].detail


def test_rows_with_their_names(tmp_path: Path) -> None:
    with Source(databases(tmp_path / "top")) as source:
        [one] = SessionReader(source, Report()).of("main", "main")
    assert (one.id, one.key, one.label) == (MAIN, "agent:main:main", "Me")


def test_hostile_files_are_named_and_the_rest_comes(tmp_path: Path) -> None:
    top, report = tmp_path / "top", Report()
    place = "agents/main/sessions"
    put(top, {
        f"{place}/a.jsonl": oldest(), f"{place}/A.jsonl": oldest(), f"{place}/empty.jsonl": "",
        f"{place}/sessions.json": "{", f"{place}/..jsonl": oldest(), f"{place}/bad name.jsonl": oldest(),
        f"{place}/noise.jsonl": b"\xff\xfe\x00" * 100, "agents/main/agent/openclaw-agent.sqlite": b"not a database",
    })  # fmt: skip
    (top / place / "link.jsonl").symlink_to("/etc/passwd")
    with Source(top) as source:
        found = [one.id for one in SessionReader(source, report).of("main", "main")]
    assert len(found) == 2
    assert found[0] == "A"
    assert found[1].startswith("a-")
    told = {item.name.rpartition("/")[2]: item.outcome for item in report.items}
    assert told["link.jsonl"] == "refused"
    assert told["sessions.json"] == "refused"
    assert told["openclaw-agent.sqlite"] == "refused"
    assert told["empty.jsonl"] == told["bad name.jsonl"] == told["noise.jsonl"] == "left"


def test_one_that_the_index_names_comes_whatever_it_is_called(tmp_path: Path) -> None:
    top, report, place = tmp_path / "top", Report(), "agents/main/sessions"
    put(top, {
        f"{place}/b\u00fcro.jsonl": oldest(), f"{place}/no one.jsonl": oldest(),
        f"{place}/sessions.json": '{"agent:main:main": {"sessionId": "b\\u00fcro", "displayName": "The office"}}',
    })  # fmt: skip
    with Source(top) as source:
        [one] = SessionReader(source, report).of("main", "main")
    assert (one.label, one.id.isascii()) == ("The office", True)
    told = {item.name: (item.outcome, item.detail) for item in report.items}
    assert told[f"{place}/b\u00fcro.jsonl"] == ("changed", f"as {one.id}")
    assert told[f"{place}/no one.jsonl"][0] == "left"
    assert len(told) == 2
