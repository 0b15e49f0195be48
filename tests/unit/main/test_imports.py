"""A directory of another system's becomes an archive, the same one each time, and one that is taken in."""

import hashlib
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import apsw
import pytest

from carrel.backup.intake import take_in
from carrel.cli.conversion import Conversion
from carrel.errors import InvalidRequest, NotFound
from carrel.main.imports import convert
from carrel.memory import book as memory_book
from carrel.schedule import book as schedule_book
from carrel.skills.service import SkillBook
from tests.fakes.openclaw import API_KEY, GROUP, MAIN, OLD, databases, many, put, single


def one(source: Path, work: Path) -> Conversion:
    work.mkdir()
    [made] = convert(source, work, "default")
    return made


def unpacked(made: Conversion, place: Path) -> Path:
    take_in(io.BytesIO(made.archive.read_bytes()), place, going=lambda: None)
    return place


def test_everything_has_its_place(tmp_path: Path) -> None:
    made = one(single(tmp_path / "top"), tmp_path / "work")
    tree = unpacked(made, tmp_path / "tree")
    assert {path.stem for path in (tree / "sessions").iterdir()} == {MAIN, OLD, GROUP}
    assert (tree / "agents/main/SOUL.md").read_text() == "You are Molty.\n"
    assert (tree / "sandbox/link").readlink() == Path("notes.txt")
    jobs = schedule_book.jobs(apsw.Connection(str(tree / "cron/cron.sqlite")))
    assert sorted(kept.job.name for kept in jobs) == ["Morning", "Old spelling", "Water"]
    notes = memory_book.notes(apsw.Connection(str(tree / "memory/memory.sqlite")))
    assert [note.text for note in notes] == ["The user likes marmalade.\n"]
    skills = SkillBook.model_validate_json((tree / "plugins/skills.json").read_bytes())
    assert [skill.name for skill in skills.skills] == ["rhyme"]
    assert {agent.id: (agent.model, agent.skills) for agent in made.agents} == {
        "main": ("anthropic/claude-opus-4-5", ("rhyme",)), "work_bot": ("demo/demo", ("rhyme",)),
    }  # fmt: skip
    everything = b"".join(path.read_bytes() for path in tree.rglob("*") if path.is_file())
    assert len(made.secrets) > 4
    for secret in made.secrets.values():
        assert secret.encode() not in everything
    assert API_KEY not in repr(made)
    assert API_KEY not in str(made.report)


def test_what_is_refused_in_the_end_is_not_told_as_taken_too(tmp_path: Path) -> None:
    top = single(tmp_path / "top")
    jobs = [{"id": f"j{n}", "name": f"J{n}", "schedule": {"cron": "0 7 * * *"}, "message": "x"} for n in range(203)]
    jobs[0]["schedule"] = {"kind": "cron", "expr": "0 7 * * *", "tz": "Mars/Olympus"}
    (top / "cron/jobs.json").write_text(json.dumps({"version": 1, "jobs": jobs}))
    made = one(top, tmp_path / "work")
    counts = dict(made.report)["counts"]
    assert isinstance(counts, dict)
    assert (counts["job"]["taken"], counts["job"]["refused"]) == (200, 3)
    tree = unpacked(made, tmp_path / "tree")
    assert len(schedule_book.jobs(apsw.Connection(str(tree / "cron/cron.sqlite")))) == 200


def test_the_same_directory_is_the_same_archive(tmp_path: Path) -> None:
    top = single(tmp_path / "top")
    made = [one(top, tmp_path / f"work{number}") for number in range(2)]
    digests = [hashlib.sha256(each.archive.read_bytes()).hexdigest() for each in made]
    assert digests[0] == digests[1]
    assert made[0].report == made[1].report
    with (top / f"agents/main/sessions/{OLD}.jsonl").open("a") as file:
        file.write('{"type":"message","message":{"role":"user","content":"more"}}\n')
    assert hashlib.sha256(one(top, tmp_path / "work2").archive.read_bytes()).hexdigest() != digests[0]


def test_the_later_generation(tmp_path: Path) -> None:
    tree = unpacked(one(databases(tmp_path / "top"), tmp_path / "work"), tmp_path / "tree")
    assert [path.stem for path in (tree / "sessions").iterdir()] == [MAIN]


def test_all_tenants_of_a_multi_tenant_directory(tmp_path: Path) -> None:
    top, work = many(tmp_path / "top"), tmp_path / "work"
    work.mkdir()
    made = convert(top, work, None)
    assert [(each.tenant, each.display_name) for each in made] == [("alpha", "Alpha Inc"), ("beta", None)]
    assert (unpacked(made[1], tmp_path / "tree") / "sandbox/who.txt").read_text() == "beta"
    with pytest.raises(InvalidRequest, match="leave --as out"):
        convert(top, work, "default")
    with pytest.raises(InvalidRequest, match="--as names"):
        convert(single(tmp_path / "one"), work, None)


@pytest.mark.parametrize("name", ["../alpha", "Alpha", "none"])
def test_S9_01_a_tenant_of_another_place_is_none(tmp_path: Path, name: str) -> None:
    top, work = many(tmp_path / "top"), tmp_path / "work"
    work.mkdir()
    put(top, {"tenants.json": f'{{"tenants": {{"{name}": {{}}}}}}', "tenants/Alpha/openclaw.json": "{}"})
    with pytest.raises((InvalidRequest, NotFound)):
        convert(top, work, None)


def test_tenants_that_are_none_are_told_and_hold_up_no_other(tmp_path: Path) -> None:
    top, work = many(tmp_path / "top"), tmp_path / "work"
    work.mkdir()
    listed: dict[str, object] = {name: {} for name in ("../alpha", "gone", "UPPER", "alpha", "beta")}
    put(top, {"tenants.json": json.dumps({"tenants": listed}), "tenants/UPPER/openclaw.json": "{}"})
    made = convert(top, work, None)
    assert [each.tenant for each in made] == ["alpha", "beta"]
    told = [{i["name"]: i["outcome"] for i in each.report["items"] if i["kind"] == "tenant"} for each in made]
    assert told == [{"../alpha": "refused", "gone": "left", "UPPER": "refused"}, {}]


def test_a_tenant_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    source = many(tmp_path / "many")
    put(source, {"tenants/alpha/openclaw.json": "{ a: "})
    [made] = convert(source, tmp_path, None)
    assert made.tenant == "beta"
    told: Any = made.report
    [refused] = [item for item in told["items"] if item["kind"] == "tenant"]
    assert (refused["name"], refused["outcome"], "line 1, column 6" in refused["detail"]) == ("alpha", "refused", True)
    put(source, {"tenants/beta/openclaw.json": "[]"})
    with pytest.raises(InvalidRequest, match="no object"):
        convert(source, tmp_path, None)


def test_a_long_transcript_is_there_once_at_a_time(tmp_path: Path) -> None:
    top = single(tmp_path / "top")
    said = [
        {"type": "message", "id": f"{n:08x}", "parentId": f"{n - 1:08x}" if n else None,
         "timestamp": "2026-01-01T00:00:00Z",
         "message": {"role": "user", "content": [{"type": "text", "text": f"{n} " * 1000}]}}
        for n in range(1000)
    ]  # fmt: skip
    data = b"".join(json.dumps(entry).encode() + b"\n" for entry in said)
    put(top, {f"agents/main/sessions/{MAIN}.jsonl": data})
    one(top, tmp_path / "first")
    tracemalloc.start()
    try:
        one(top, tmp_path / "work")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(data)


def test_S9_01_what_leads_out_is_refused_by_name(tmp_path: Path) -> None:
    top = single(tmp_path / "top")
    (top / "workspace/evil").symlink_to("/etc/passwd")
    (top / "workspace/up").symlink_to("../credentials")
    (top / "workspace/work_bot").mkdir()
    (top / "workspace/work_bot/plan.md").write_text("the main agent's own")
    made = one(top, tmp_path / "work")
    tree = unpacked(made, tmp_path / "tree")
    told = {item["name"]: item["outcome"] for item in made.report["items"]}
    assert told["sandbox/evil"] == told["sandbox/up"] == told["sandbox/work_bot/plan.md"] == "refused"
    assert not (tree / "sandbox/evil").is_symlink()
    assert (tree / "sandbox/work_bot/plan.md").read_text() == "the main agent's own"
