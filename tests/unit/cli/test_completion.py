"""The completion scripts are ones that their shells take."""

import subprocess

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
