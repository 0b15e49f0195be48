"""The completion scripts are ones that their shells take."""

import subprocess
from pathlib import Path

import pytest

from tests.unit.cli.conftest import CommandLine


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_a_script_names_the_commands(carrel: CommandLine, shell: str) -> None:
    done = await carrel("completion", shell)
    assert done.code == 0, done.err
    for word in ("gateway", "tenants", "billing"):
        assert word in done.out
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=done.out, text=True, check=False).returncode == 0


async def test_a_script_in_json(carrel: CommandLine) -> None:
    told = (await carrel("completion", "bash", "--json")).json()
    assert told == {"shell": "bash", "script": (await carrel("completion", "bash")).out}


async def test_another_shell_is_wrong_usage(carrel: CommandLine) -> None:
    assert (await carrel("completion", "csh")).code == 2


@pytest.mark.parametrize(
    ("shell", "place"),
    [
        ("bash", "data/bash-completion/completions/carrel"),
        ("zsh", "data/zsh/site-functions/_carrel"),
        ("fish", "config/fish/completions/carrel.fish"),
    ],
)
async def test_a_script_is_put_where_its_shell_looks(
    carrel: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, place: str
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    done = await carrel("completion", shell, "--install")
    assert (done.code, str(tmp_path / place) in done.out) == (0, True), done.err
    assert (tmp_path / place).read_text() == (await carrel("completion", shell)).out
    told = (await carrel("completion", shell, "--install", "--json")).json()
    assert (told["path"], bool(told["next"])) == (str(tmp_path / place), True)
