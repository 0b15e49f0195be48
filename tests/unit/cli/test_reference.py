"""The checked-in page of the command line is the one that its commands make."""

from pathlib import Path

from carrel.cli.app import COMMANDS
from carrel.cli.reference import page, write

KEPT = Path(__file__).resolve().parents[3] / "docs" / "reference" / "cli.md"


def test_the_page_is_up_to_date(tmp_path: Path) -> None:
    write(tmp_path)
    assert (tmp_path / "cli.md").read_text() == KEPT.read_text(), "run `make docs`"


def test_every_command_is_on_it() -> None:
    made = page()
    for words in COMMANDS:
        assert f"carrel {' '.join(words)}\n" in made
    assert "carrel gateway" in made


def test_no_option_is_there_that_says_nothing() -> None:
    assert "--empty-" not in page()


def test_what_every_command_takes_is_said_once() -> None:
    made = page()
    assert made.count("* `--admin-key-file") == 1
    assert made.count("* `--json`") == 6
    for own in ("* `--listen STR`: Where", "* `--display-name", "* `--json`: Log in JSON."):
        assert own in made
