"""A tenant's archive as the other system's directory, which comes in again as it was."""

import io
from pathlib import Path

import pytest

from carrel.backup.intake import take_in
from carrel.errors import CarrelError
from carrel.main.exports import reverse
from carrel.main.imports import convert
from tests.fakes.openclaw import MAIN, single


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
    names = [{path.name for path in (tree / "sessions").iterdir()} for tree in trees]
    assert names[0] == names[1]


def test_a_directory_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    [made] = convert(single(tmp_path / "top"), tmp_path / "work", "default")
    with pytest.raises(CarrelError, match="File exists"):
        reverse(made.archive, tmp_path / "top")
