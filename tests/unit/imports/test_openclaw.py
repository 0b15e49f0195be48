"""A state directory looked through: everything in it is told of, by name."""

import os
from pathlib import Path

import pytest

from carrel.errors import InvalidRequest
from carrel.imports.openclaw import State, tenants_of
from carrel.imports.source import MOST_DEPTH, Source
from tests.fakes.openclaw import API_KEY, SKILL, databases, many, oldest, put, single


def test_all_of_it_is_told(tmp_path: Path) -> None:
    with Source(single(tmp_path / "top")) as source:
        state = State(source)
        state.look()
        files = {file.path: file for file in state.files()}
    assert set(files) >= {
        "agents/main/AGENTS.md", "agents/main/SOUL.md", "agents/main/HEARTBEAT.md", "sandbox/notes.txt", "sandbox/link",
        "sandbox/skills/rhyme/words.txt", "sandbox/memory/2026-01-01.md", "agents/work_bot/AGENTS.md",
        "sandbox/work_bot/plan.md",
    }  # fmt: skip
    assert files["sandbox/link"].link == "notes.txt"
    assert [job["name"] for job in state.jobs] == ["Morning", "Water", "Old spelling"]
    assert [note.text for note in state.notes] == ["The user likes marmalade.\n"]
    assert state.settings.secrets["ANTHROPIC_API_KEY"] == API_KEY
    assert state.settings.secrets["CREDENTIALS_WHATSAPP_DEFAULT_CREDS"].startswith('{"noiseKey"')
    assert "OPENAI_CODEX_OAUTH" in state.settings.secrets
    assert state.settings.channels["access"]["telegram-allowFrom"]["allowFrom"] == ["42"]
    assert state.wake == ("molty",)
    told = {item.name: item.outcome for item in state.report.items}
    for name in ("devices/paired.json", "memory", "logs", "cron/runs", "messages"):
        assert told[name] == "left", name
    assert told["cron/jobs.json#3"] == told["cron/jobs.json#4"] == "refused"


def test_who_may_write_is_kept_whatever_a_channel_of_that_name_is(tmp_path: Path) -> None:
    for number, given in enumerate(("true", "[]", '"x"')):
        top = single(tmp_path / str(number))
        put(top, {"openclaw.json": f'{{"channels": {{"access": {given}}}}}'})
        with Source(top) as source:
            state = State(source)
            state.look()
        assert state.settings.channels["access"]["telegram-allowFrom"]["allowFrom"] == ["42"]
        assert ("access", "refused") in {(item.name, item.outcome) for item in state.report.items}


def test_the_later_generation(tmp_path: Path) -> None:
    with Source(databases(tmp_path / "top")) as source:
        state = State(source)
        state.look()
        assert [job["name"] for job in state.jobs] == ["Morning"]
        assert state.settings.secrets["ANTHROPIC_API_KEY"] == API_KEY
        assert [file.path for file in state.files()] == ["agents/main/USER.md"]


def test_S9_01_hostile_names_are_told_and_nothing_is_read_from_outside(tmp_path: Path) -> None:
    top = tmp_path / "top"
    put(top, {
        "openclaw.json": '{agents: {list: [{id: "main", workspace: "/etc"}, {id: "../../x"}]}}',
        "workspace/big": b"", "credentials/bad.json": b"\xff", "cron/jobs.json": "[[[",
        "devices/paired.json": "nonsense", "settings/voicewake.json": "{}",
    })  # fmt: skip
    with (top / "workspace/big").open("wb") as file:
        file.truncate(5 << 30)
    (top / "credentials/evil.json").symlink_to("/etc/passwd")
    (top / "workspace/memory").symlink_to("/etc")
    with Source(top) as source:
        state = State(source)
        state.look()
        files = [file.path for file in state.files()]
    told = {item.name: item.outcome for item in state.report.items}
    for name in ("workspace/big", "credentials/bad.json", "credentials/evil.json", "cron/jobs.json", "../../x",
                 "devices/paired.json"):  # fmt: skip
        assert told[name] in ("refused", "changed"), name
    assert state.settings.secrets == {}
    assert state.notes == []
    assert files == ["sandbox/memory"]


@pytest.mark.parametrize("text", ["{", "[]", "\ufffe", "{a: 1, a: 2}"])
def test_settings_that_are_none_end_it_with_their_place(tmp_path: Path, text: str) -> None:
    put(tmp_path, {"openclaw.json": text})
    with Source(tmp_path) as source, pytest.raises(InvalidRequest, match=r"openclaw\.json"):
        State(source).look()


def test_tenants_of_the_fork(tmp_path: Path) -> None:
    with Source(many(tmp_path / "many")) as source:
        assert list(tenants_of(source) or ()) == ["alpha", "beta"]
    with Source(single(tmp_path / "one")) as source:
        assert tenants_of(source) is None
    put(tmp_path, {"tenants.json": '{"tenants": []}'})
    with Source(tmp_path) as source, pytest.raises(InvalidRequest):
        tenants_of(source)


def test_what_lies_too_deep_is_told(tmp_path: Path) -> None:
    deep = "d/" * (MOST_DEPTH + 5)
    with Source(single(tmp_path / "top")) as source:
        put(tmp_path / "top", {f"workspace/{deep}file": "x", f"workspace/{'e/' * (MOST_DEPTH - 1)}file": "x"})
        state = State(source)
        state.look()
        files = {file.path for file in state.files()}
    assert (f"sandbox/{deep}file" in files, f"sandbox/{'e/' * (MOST_DEPTH - 1)}file" in files) == (False, True)
    [refused] = [item for item in state.report.items if "directories deep" in item.detail]
    assert (refused.outcome, refused.name) == ("refused", f"workspace/{'d/' * MOST_DEPTH}".rstrip("/"))


def test_each_file_is_told_of(tmp_path: Path) -> None:
    """By its own name or that of a directory above it: nothing is left behind without a word."""
    top = single(tmp_path / "top")
    put(top, {
        "agents/main/agent/models.json": "{}", "agents/main/notes.txt": "x", "cron/jobs.json.bak": "[]",
        "devices/pending.json": "{}", "settings/tts.json": "{}", "state/other.sqlite": b"x",
        "skills/sing/SKILL.md": SKILL.replace("rhyme", "sing"), "skills/sing/run.sh": "echo la\n",
        "skills/loose/readme.txt": "x", "agents/unused.txt": "x",
    })  # fmt: skip
    with Source(top) as source:
        state = State(source)
        state.look()
        files = [file.path for file in state.files()]
        list(state.sessions())
        told = {item.name.partition("#")[0] for item in state.report.items} | set(state.skills)
        for name in source.walk("."):
            above = {name.path, *(str(path) for path in Path(name.path).parents)} - {"."}
            taken = any(name.path.startswith(f"{place}/") for place in ("workspace", "workspace-work"))
            index = name.path.endswith("/sessions.json")
            assert name.kind == "directory" or above & told or taken or index, name.path
    assert "sandbox/notes.txt" in files


def test_directories_that_are_links_are_told(tmp_path: Path) -> None:
    top, away = tmp_path / "top", tmp_path / "away"
    put(away, {"AGENTS.md": "x", "one.jsonl": oldest(), "creds.json": "{}"})
    put(top, {"openclaw.json": "{}", "agents/main/agent/x": ""})
    for place in ("workspace", "agents/main/sessions", "credentials", "skills"):
        (top / place).symlink_to(away)
    with Source(top) as source:
        state = State(source)
        state.look()
        assert [*state.files(), *state.sessions()] == []
    told = {item.name: (item.outcome, item.detail) for item in state.report.items}
    for place in ("workspace", "agents/main/sessions", "credentials", "skills"):
        assert told[place][0] == "refused", place
        assert "link" in told[place][1], place


def test_a_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    top = tmp_path / "top"
    put(top, {"openclaw.json": "{}", "workspace/memory/a.md": "said"})
    (top / os.fsdecode(b"workspace/memory/\xff.md")).write_text("strange")
    with Source(top) as source:
        state = State(source)
        state.look()
    assert [note.text for note in state.notes] == ["said", "strange"]


@pytest.mark.parametrize(
    "text", ['{"triggers": 5}', '{"triggers": ["", "a"]}', "[]", '{"triggers": ["%s"]}' % ("x" * 65)]
)
def test_words_that_are_none_are_told(tmp_path: Path, text: str) -> None:
    put(tmp_path, {"openclaw.json": "{}", "settings/voicewake.json": text})
    with Source(tmp_path) as source:
        state = State(source)
        state.look()
    assert state.report.counts["voice", "changed" if state.wake else "refused"] == 1
