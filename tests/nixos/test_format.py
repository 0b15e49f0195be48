"""Nix files are as nixfmt writes them: by its path where it is at hand, for no package of Debian or PyPI has it."""

import os
import shutil
import subprocess

import pytest

from tests.nixos.evaluated import REPOSITORY, Nix

NIXFMT = "CARREL_NIXFMT"


def files() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "*.nix"], capture_output=True, text=True, check=True, cwd=REPOSITORY, timeout=60
    )
    return done.stdout.splitlines()


def test_every_nix_file_is_formatted() -> None:
    nixfmt = shutil.which(os.environ.get(NIXFMT, "nixfmt"))
    if nixfmt is None:
        pytest.skip(f"nixfmt is not at hand: `nix flake check` runs it; set {NIXFMT} to its path to do so here")
    done = subprocess.run(
        [nixfmt, "--check", *files()], capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=120
    )
    assert done.returncode == 0, f"run `nix fmt`:\n{done.stdout}{done.stderr}"


def test_nix_flake_check_has_it_and_nix_fmt_writes_what_it_wants(nix: Nix) -> None:
    check = nix.evaluate("checks.x86_64-linux.format.text")
    assert "-name '*.nix' -print0 | xargs -0 nixfmt --check" in check
    assert "ruff format --check . ../tests" in check
    assert "'*.nix' | xargs -0 nixfmt\n" in nix.evaluate("formatter.x86_64-linux.text")
