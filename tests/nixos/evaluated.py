"""The real Nix on a copy of the flake, with a stand-in for nixpkgs, or nixpkgs' own `lib` where that is at hand."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
STUB = Path(__file__).with_name("stub")
PARTS = (
    "flake.nix",
    "flake.lock",
    "modules",
    "pkgs",
    "hosts",
    "tenants.d",
    "python/pyproject.toml",
    "tests/nixos/matrix.nix",
    "tests/nixos/machines",
)
EXPRESSIONS = "python/carrel/packages/expressions"


class Nix:
    """The `nix` command on a copy of the flake, with a store and a home of its own."""

    def __init__(self, home: Path, lib: Path | None = None) -> None:
        self.home = home
        self.lib = lib
        self.flake = home / "flake"
        for part in (*PARTS, EXPRESSIONS):
            source, target = REPOSITORY / part, self.flake / part
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [
            "nix", "--extra-experimental-features", "nix-command flakes", "--option", "substitute", "false",
            "--option", "substituters", "", "--option", "build-users-group", "",
            *words, "--store", str(self.home / "store"),
        ]  # fmt: skip
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, cwd=self.home,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "USER": "test", "NIX_CONF_DIR": str(self.home)},
        )  # fmt: skip

    def on_flake(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return self(*words, "--override-input", "nixpkgs", f"path:{STUB}", "--no-write-lock-file")

    def evaluate(self, attribute: str, apply: str = "x: x") -> Any:
        done = self.on_flake("eval", "--json", f"path:{self.flake}#{attribute}", "--apply", apply)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def host(self, module: str, read: str) -> "subprocess.CompletedProcess[str]":
        """``read`` of the configuration of a host with ``module`` beside ours."""
        return self.hosts(None, module, read)

    def built(self, module: str, read: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """The same, of a derivation that is then built; the build's log is on standard error."""
        return self.on_flake(
            "build", "--no-link", "-L", "--impure", *words, "--expr", self._expression(None, module, read)
        )

    def hosts(self, every: str | None, module: str, read: str) -> "subprocess.CompletedProcess[str]":
        """The same of each value ``one`` of the set ``every``, from which ``module`` is made."""
        return self.on_flake("eval", "--json", "--impure", "--expr", self._expression(every, module, read))

    def _expression(self, every: str | None, module: str, read: str) -> str:
        inputs = f'nixpkgs = builtins.getFlake "path:{STUB}"; self = flake // {{ inputs.nixpkgs = nixpkgs; }};'
        flake = f"flake = (import {self.flake}/flake.nix).outputs {{ inherit self nixpkgs; }}"
        modules = f"[ flake.nixosModules.default ({module}) ]"
        made = f'host = nixpkgs.lib.nixosSystem {{ system = "x86_64-linux"; modules = {modules}; }};'
        if self.lib is not None:
            pkgs = 'nixpkgs.legacyPackages."x86_64-linux"'
            made = f"host = import {STUB}/with-lib.nix {{ lib = {self.lib}; pkgs = {pkgs}; modules = {modules}; }};"
        made += f" in {read}"
        each = f"builtins.mapAttrs (_: one: let {made}) ({every})" if every is not None else f"let {made}"
        return f"let {inputs} {flake} // {{ outPath = {self.flake}; }}; in {each}"


@contextmanager
def evaluation(home: Path, lib: Path | None = None) -> Iterator[Nix]:
    """A place to evaluate in, gone afterwards."""
    yield Nix(home, lib)
    for at, directories, _ in os.walk(home):
        for name in directories:
            if not (Path(at) / name).is_symlink():
                (Path(at) / name).chmod(0o755)
    shutil.rmtree(home)
