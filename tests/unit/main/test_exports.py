"""A tenant's archive as the other system's directory, which comes in again as it was."""

import io
import json
import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

from carrel.backup.archive import Header, Writer
from carrel.backup.intake import take_in
from carrel.errors import CarrelError
from carrel.main.exports import reverse
from carrel.main.imports import convert
from carrel.memory import book as memory_book
from carrel.schedule import book as schedule_book
from tests.fakes.openclaw import MAIN, put, single


def test_there_and_back(tmp_path: Path) -> None:
    trees = []
    source = single(tmp_path / "top")
    for number in range(2):
        work = tmp_path / f"work{number}"
        work.mkdir()
        [made] = convert(source, work, "default")
        tree = tmp_path / f"tree{number}"
        take_in(io.BytesIO(made.archive.read_bytes()), tree, going=lambda: None)
        trees.append(tree)
        source = tmp_path / f"out{number}"
        report = reverse(made.archive, source)
        assert report["counts"]["session"] == {"taken": 3}
    assert (source / f"agents/main/sessions/{MAIN}.jsonl").is_file()
    for path in ("agents/main/SOUL.md", "sandbox/notes.txt", "sandbox/skills/rhyme/SKILL.md"):
        assert (trees[0] / path).read_bytes() == (trees[1] / path).read_bytes()
    for path in ("channels/openclaw.json", "devices/voicewake.json"):
        assert (trees[0] / path).read_bytes() == (trees[1] / path).read_bytes()
    assert b"telegram-allowFrom" in (trees[1] / "channels/openclaw.json").read_bytes()
    names = [{path.name for path in (tree / "sessions").iterdir()} for tree in trees]
    assert names[0] == names[1]
    jobs = [schedule_book.jobs(apsw.Connection(str(tree / "cron/cron.sqlite"))) for tree in trees]
    assert [kept.job.id for kept in jobs[0]] == [kept.job.id for kept in jobs[1]]
    notes = [memory_book.notes(apsw.Connection(str(tree / "memory/memory.sqlite"))) for tree in trees]
    assert [note.text for note in notes[0]] == [note.text for note in notes[1]] == ["The user likes marmalade.\n"]


def test_every_note_goes_out_and_comes_back_whatever_files_the_workspace_has(tmp_path: Path) -> None:
    top, work = single(tmp_path / "top"), tmp_path / "work"
    texts = {"The user likes marmalade.\n"}
    for number in range(3):
        texts.add(f"Note {number}")
        put(top, {f"workspace/memory/n{number}.md": f"Note {number}"})
        os.utime(top / f"workspace/memory/n{number}.md", (1767225600, 1767225600))
    work.mkdir()
    [made] = convert(top, work, "default")
    tree = tmp_path / "tree"
    take_in(io.BytesIO(made.archive.read_bytes()), tree, going=lambda: None)
    # Notes that are in no file, of a day that the agent has a file of its own for.
    for number in range(3):
        (tree / f"sandbox/memory/n{number}.md").unlink()
    archive = work / "again.tar.gz"
    with archive.open("wb") as out:
        writer = Writer(out, Header(tenant="default", at=datetime(2026, 1, 1, tzinfo=UTC), carrel="0"), temporary=work)
        add_tree(writer, tree)
        writer.close()
    reverse(archive, tmp_path / "out")
    found = [path.read_text() for path in (tmp_path / "out/workspace/memory").iterdir()]
    assert (set(found), len(found)) == (texts, 4)


def add_tree(writer: Writer, tree: Path) -> None:
    """Everything in ``tree``, into an archive."""
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            writer.link(name, str(path.readlink()))
        elif path.is_dir():
            writer.directory(name)
        else:
            writer.file(name, partial(blocks, path), mode=0o600, mtime=0)


def blocks(path: Path, _: object) -> tuple[bytes]:
    return (path.read_bytes(),)


def test_what_has_no_place_there_is_told(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    with archive.open("wb") as out:
        writer = Writer(
            out, Header(tenant="default", at=datetime(2026, 1, 1, tzinfo=UTC), carrel="0"), temporary=tmp_path
        )
        writer.directory("channels")
        people = {"slack/main-allowFrom": {"allowFrom": ["1"]}, "../../x": 1, "..": 2}
        writer.data("channels/openclaw.json", json.dumps({"access": people}).encode())
        writer.data("config.yaml", b"display_name: Me\nagents: {main: {model: demo, thinking: low}}\n")
        writer.close()
    report: Any = reverse(archive, tmp_path / "out")
    told = {(item["kind"], item["name"]): (item["outcome"], item.get("detail")) for item in report["items"]}
    assert told["setting", "display_name"][0] == told["channel", "../../x"][0] == told["channel", ".."][0] == "left"
    assert told["agent", "main"] == ("changed", "not taken of it: thinking")
    assert [path.name for path in (tmp_path / "out/credentials").iterdir()] == ["slack-main-allowFrom.json"]


def test_a_directory_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    [made] = convert(single(tmp_path / "top"), tmp_path / "work", "default")
    with pytest.raises(CarrelError, match="File exists"):
        reverse(made.archive, tmp_path / "top")
