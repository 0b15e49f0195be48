import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from carrel import __version__
from carrel.cli.app import ALL_WORDS, COMMANDS, GROUPS
from tests.unit.cli.conftest import CommandLine


def test_help_and_version(carrel: CommandLine) -> None:
    done = carrel.run("--help")
    assert done.code == 0
    assert all(words[0] in done.out for words in COMMANDS)
    assert "gateway" in done.out
    assert carrel.run("--version").out.strip() == f"carrel {__version__}"
    assert carrel.run().code == 0


@pytest.mark.parametrize("words", [(), *GROUPS], ids=" ".join)
def test_what_lists_commands_says_what_each_does(words: tuple[str, ...]) -> None:
    # In a process of its own: nobody has imported a command's module there.
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True)
    shown = done.stdout.splitlines()
    for name in {said[len(words)] for said in ALL_WORDS if said[: len(words)] == words and len(said) > len(words)}:
        assert any(len(line.split()) > 3 and line.split()[1] == name for line in shown), (name, done.stdout)


@pytest.mark.parametrize("words", ALL_WORDS, ids=" ".join)
def test_every_command_explains_itself(carrel: CommandLine, words: tuple[str, ...]) -> None:
    done = carrel.run(*words, "--help")
    assert done.code == 0, done.err
    if words not in GROUPS:
        assert "--json" in done.out
    if words in COMMANDS:
        for option in ("--state-dir", "--url", "--admin-key-file"):
            assert option in done.out, words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("statsu",), "status"),
        (("status", "--wach"), "--watch"),
        (("status", "acme", "extra"), "carrel status --help"),
        (("status", "--every", "soon"), "--every"),
    ],
)
def test_what_is_mistyped_is_told_the_nearest(carrel: CommandLine, words: tuple[str, ...], said: str) -> None:
    done = carrel.run(*words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    told = carrel.run(*words, "--json")
    assert told.code == 2
    error = json.loads(told.err)["error"]
    assert error["code"] == "wrong_usage"
    assert said in error["message"]


def test_an_interrupt_is_no_failure_of_ours(carrel: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(carrel, "_gateway", interrupted)
    done = carrel.run("gateway")
    assert (done.code, done.err) == (130, "")


def test_a_variable_that_is_empty_is_not_set(carrel: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    home = carrel.state / "home"
    for name, value in (("CARREL_STATE_DIR", ""), ("CARREL_URL", ""), ("XDG_STATE_HOME", str(home))):
        monkeypatch.setenv(name, value)
    assert str(home / "carrel") in carrel.run("status").err
    assert carrel.run("gateway").code == 0
    assert carrel.started[0].state_dir == home / "carrel"


PROGRAM = "import sys; from carrel.cli.app import *; sys.exit(execute(build_app(lambda options: 0)))"


def test_it_starts_without_what_it_may_not_need() -> None:
    told = (
        "import sys; from carrel.cli.app import build_app, execute; execute(build_app(lambda options: 0), ['--help']);"
        "print(*sorted({'aiohttp', 'apsw', 'uvloop', 'anthropic', 'openai', 'watchfiles'} & set(sys.modules)), "
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""


def test_a_reader_that_leaves_is_no_failure_to_report(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "schema", "tenant"],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == ""
