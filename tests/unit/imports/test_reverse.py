"""Ours as theirs, and back again: the conversation is the same."""

import json
from datetime import UTC, datetime

from carrel.agents import transcript as ours
from carrel.agents.history import history
from carrel.imports import reverse
from carrel.imports.jobs import convert as convert_job
from carrel.imports.json5 import parse
from carrel.imports.transcript import convert, parse_lines
from tests.fakes.openclaw import JOBS, oldest, transcript
from tests.unit.imports.test_transcript import HEADER

AT = datetime(2026, 1, 1, tzinfo=UTC)


def test_there_and_back_the_conversation_is_the_same() -> None:
    for text in (transcript(), oldest()):
        first = convert(*parse_lines(text.encode()))
        theirs = reverse.transcript("s_1", AT, first.lines)
        head = json.loads(theirs.split(b"\n")[0])
        assert (head["type"], head["version"], head["id"]) == ("session", 3, "s_1")
        second = convert(*parse_lines(theirs))
        assert second.notes == []
        said = []
        for done in (first, second):
            read = ours.parse(HEADER + b"".join(json.dumps(line).encode() + b"\n" for line in done.lines))
            said.append([item.message for item in history(read.entries)])
        assert said[0] == said[1]


def test_jobs_there_and_back() -> None:
    for raw in JOBS[:3]:
        first, _ = convert_job(raw)
        assert first is not None
        second, _ = convert_job(reverse.job(first))
        assert second is not None
        same = ("name", "schedule", "message", "enabled", "delete_after_run", "timeout_seconds", "created")
        assert [first[key] for key in same] == [second[key] for key in same]


def test_settings_name_secrets_and_hold_none() -> None:
    channels = {"telegram": {"botToken": {"secret": "BOT"}, "list": [{"secret": "B"}]}, "access": {"x": 1}}
    made = parse(reverse.settings({"main": {"model": "m"}, "poet": {"skills": ["a"]}}, channels).decode())
    assert made["channels"] == {"telegram": {"botToken": "${BOT}", "list": ["${B}"]}}
    assert [agent["id"] for agent in made["agents"]["list"]] == ["main", "poet"]


def test_an_index_entry() -> None:
    assert reverse.index_entry("s", "L", AT) == {
        "sessionId": "s", "updatedAt": 1767225600000, "sessionFile": "s.jsonl", "displayName": "L",
    }  # fmt: skip
