"""The manual page is one that formatters take, and names every command."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from carrel.cli.app import ALL_WORDS
from carrel.cli.manual import manual
from carrel.cli.reference import page
from tests.unit.cli.conftest import CommandLine

REQUESTS = {".TH", ".SH", ".SS", ".TP", ".PP"}


def test_every_command_is_in_it_and_every_line_is_text_or_a_known_request() -> None:
    text = manual(page())
    plain = text.replace("\\-", "-")
    for words in ALL_WORDS:
        assert f"carrel {' '.join(words)}".lower() in plain.lower(), words
    for line in text.splitlines():
        assert not line.startswith(".") or line.split()[0] in REQUESTS, line
        assert not line.startswith("'"), line
    assert not re.search(r"(?<!\\)\\(?![efI&-])", text)


@pytest.mark.skipif(shutil.which("man") is None, reason="no man here")
def test_man_shows_it_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "carrel.1"
    path.write_text(manual(page()))
    done = subprocess.run(
        ["man", "--warnings", "-l", str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert "billing invoice" in done.stdout.lower()
    assert done.stderr == ""


def test_what_could_be_a_request_is_text() -> None:
    made = manual("plain\n.so /etc/passwd\n'tr xy\nback\\slash `code-word` **strong**\n* `--x N`: what it is\n")
    assert "\\&.so /etc/passwd" in made
    assert "\\&'tr xy" in made
    assert "back\\eslash \\fBcode\\-word\\fR \\fBstrong\\fR" in made
    assert ".TP\n\\fB\\-\\-x N\\fR\nwhat it is" in made


async def test_it_is_printed_or_installed(carrel: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    printed = await carrel("man")
    assert printed.out.startswith(".TH CARREL 1")
    done = await carrel("man", "--install", "--json")
    assert Path(done.json()["path"]) == tmp_path / "data/man/man1/carrel.1"
    assert (tmp_path / "data/man/man1/carrel.1").read_text() == printed.out
    assert (await carrel("man", "--json")).json() == {"manual": printed.out}
