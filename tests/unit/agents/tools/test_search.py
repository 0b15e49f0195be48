"""`file_search` finds lines, and its pattern is never a command."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.agents.tools.search import FileSearch
from carrel.errors import UnsafePath
from carrel.tenancy.userland import Userland
from tests.fakes.sandbox import HOST
from tests.unit.agents.tools.conftest import Rig


@pytest.fixture(params=["rg", "grep"])
def program(request: pytest.FixtureRequest, rig: Rig, tmp_path: Path) -> str:
    """A userland that has one of the two programs, and not the other."""
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    for name in (request.param, "head"):
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is not on this machine")
        (bin_directory / name).symlink_to(found)
    only = replace(HOST, search_path=str(bin_directory))

    async def userland() -> Userland:
        return only

    rig.setting = replace(rig.setting, userland=userland)
    return str(request.param)


@pytest.fixture
def files(rig: Rig, program: str) -> Path:
    (rig.path / "a").mkdir()
    (rig.path / "a/one.txt").write_text("alpha\nbeta 42\n-v dashed\n")
    (rig.path / "two.txt").write_text("gamma\nBeta 7\n$(touch hacked) '; touch hacked\n")
    (rig.path / ".git").mkdir()
    (rig.path / ".git/config").write_text("beta in git\n")
    (rig.path / ".carrel/output").mkdir(parents=True)
    (rig.path / ".carrel/output/x.txt").write_text("beta in a kept output\n")
    (rig.path / "binary").write_bytes(b"\0beta\n")
    return rig.path


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ({"pattern": "beta|gamma"}, ["a/one.txt:2:beta 42", "two.txt:1:gamma"]),
        ({"pattern": "[0-9]+$", "path": "/workspace/a"}, ["a/one.txt:2:beta 42"]),
        ({"pattern": "alpha", "path": "a/one.txt"}, ["a/one.txt:1:alpha"]),
        ({"pattern": "-v"}, ["a/one.txt:3:-v dashed"]),
        ({"pattern": "touch hacked$"}, ["two.txt:3:$(touch hacked) '; touch hacked"]),
    ],
)
async def test_matching_lines_come_with_their_place(
    rig: Rig, files: Path, arguments: dict[str, str], lines: list[str]
) -> None:
    outcome = await rig.run(FileSearch(), **arguments)
    assert sorted(outcome.content.splitlines()) == lines
    assert not outcome.is_error
    assert not (files / "hacked").exists()


async def test_nothing_found_is_no_error(rig: Rig, files: Path) -> None:
    outcome = await rig.run(FileSearch(), pattern="'; touch hacked; '")
    assert (outcome.content, outcome.is_error) == ("No line matches.", False)
    assert not (files / "hacked").exists()


async def test_a_pattern_that_is_none_is_an_error(rig: Rig, files: Path) -> None:
    outcome = await rig.run(FileSearch(), pattern="(")
    assert outcome.is_error
    assert "The search failed" in outcome.content


async def test_results_and_lines_are_bounded(rig: Rig, program: str) -> None:
    (rig.path / "many").write_text(("x" * 2000 + "\n") * 300)
    outcome = await rig.run(FileSearch(), pattern="x", max_results=5)
    assert len(outcome.content) < 5000
    assert "The first 5 results; there are more" in outcome.content


async def test_elsewhere_is_refused(rig: Rig) -> None:
    with pytest.raises(UnsafePath):
        await rig.run(FileSearch(), pattern="root", path="/etc/passwd")
