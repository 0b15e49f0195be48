"""The completion scripts are ones that their shells take."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.unit.cli.conftest import CommandLine


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_a_script_names_the_commands(carrel: CommandLine, shell: str) -> None:
    done = await carrel("completion", shell)
    assert done.code == 0, done.err
    for word in ("gateway", "tenants", "billing"):
        assert word in done.out
    if shell == "zsh":
        assert done.out.startswith("#compdef carrel\n")
        assert '_cyclopts_carrel "$@"' in done.out, "zsh calls the file that it has loaded, and that is all it calls"
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


OFFERED = [
    ("carrel te", {"tenants", "terminal"}), ("carrel tenants token r", {"rotate", "revoke"}),
    ("carrel completion ", {"bash", "zsh", "fish"}), ("carrel tenants create --p", {"--plan", "--package"}),
]  # fmt: skip
"""A line, and what is offered behind it."""
BASH: Final = """
source "$1"
COMP_WORDS=($2); [[ $2 == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$2 COMP_POINT=${#2}
_carrel carrel "${COMP_WORDS[COMP_CWORD]}" ''
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH: Final = 'source "$argv[1]"; complete -C "$argv[2]"'
ZSH: Final = """
zmodload zsh/zpty
TERM=vt100 zpty z zsh -f -i
say() { zpty -w $1 z $2; zpty -r -m z out "*$3*"; print -r -- $out; }
say '' "fpath=(${1:h} \\$fpath); autoload -Uz compinit; compinit -u -D; PROMPT='rea''dy>'" 'ready>' >/dev/null
say -n $2$'\\t' $3
"""
"""zsh offers nothing outside of a terminal: it is on one, and read until the last word that is expected came."""


async def test_a_real_bash_offers_them(carrel: CommandLine, tmp_path: Path) -> None:
    script = await script_of(carrel, "bash", tmp_path)
    for line, offered in OFFERED:
        done = run(["bash", "--norc", "-c", BASH, "bash", script, line], tmp_path)
        assert set(done.split()) == offered, line


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not here")
async def test_a_real_fish_offers_them(carrel: CommandLine, tmp_path: Path) -> None:
    script = await script_of(carrel, "fish", tmp_path)
    for line, offered in OFFERED:
        done = run(["fish", "--no-config", "-c", FISH, script, line], tmp_path)
        assert {one.split("\t")[0] for one in done.splitlines()} == offered, line


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not here")
async def test_a_real_zsh_offers_them(carrel: CommandLine, tmp_path: Path) -> None:
    script = await script_of(carrel, "zsh", tmp_path)
    for line, offered in OFFERED:
        done = run(["zsh", "-f", "-c", ZSH, "zsh", script, line, max(offered)], tmp_path)
        assert all(word in done for word in offered), line


def run(words: list[str], place: Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=place, timeout=60)
    return done.stdout


async def script_of(carrel: CommandLine, shell: str, directory: Path) -> str:
    path = directory / "completions" / "_carrel"
    path.parent.mkdir()
    path.write_text((await carrel("completion", shell)).out)
    return str(path)
