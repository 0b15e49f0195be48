"""The real package set and the sample's environment of it, built by the real Nix into a store of its own."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel.packages.farm import remove
from carrel.packages.nix import NixSource
from carrel.packages.sources import debian_set
from carrel.tenancy.userland import Userland
from tests.fakes.sandboxed import reachable

REPOSITORY: Final = Path(__file__).resolve().parents[2]
STORES: Final = REPOSITORY / ".cache" / "packageset-store"
"""Stores in which the sample was built, to begin from: what they hold is asked of the real Nix all the same."""
SET: Final = debian_set(REPOSITORY)
HOSTILE: Final = (
    '"; builtins.exec ["id"]; "', "${builtins.abort 1}", "''${x}", "../jq", "/etc/passwd", "jq\n", "\njq", "jq git",
    "jq;id", "$(id)", "`id`", "-e", "--option", "_jq", "", ".", "jq\0", "\x1b[31mjq", "\uff4a\uff51", "j\u0445",
    "jq\u202e", "jq" * 100,
)  # fmt: skip
"""What somebody might say in place of a package's name."""
PACKAGES: Final = frozenset({"git", "jq", "python3", "ripgrep"})


@dataclass(frozen=True)
class Built:
    """A state directory, and the environment of the sample's packages in it."""

    state: Path
    userland: Userland

    def source(self) -> NixSource:
        return NixSource(SET, state_dir=self.state)

    def verify(self) -> None:
        """Compare all of the store with its hashes."""
        verify(self.state / "nix")


def fetched() -> Path:
    """The directory of the Debian packages; fetched where they are not there yet."""
    subprocess.run([sys.executable, str(REPOSITORY / "tests" / "packageset" / "fetch.py")], check=True, timeout=600)
    return REPOSITORY / ".cache" / "packageset"


def nixpkgs_stand_in(directory: Path, debs: Path) -> Path:
    """Make ``directory`` answer like nixpkgs for the few things that our expressions ask of it."""
    shutil.copytree(REPOSITORY / "tests" / "packageset", directory / "set")
    shutil.copytree(debs, directory / "set" / "debs", copy_function=os.link)
    shutil.copy(directory / "set" / "nixpkgs-stub" / "default.nix", directory / "default.nix")
    return directory


def built_index(built: "Built", stand_in: Path) -> Path:
    """An index of jq, git and python3 as the module makes it, built by the real Nix into the store of ``built``."""
    expression = f"""
      let pkgs = import {stand_in} {{ system = builtins.currentSystem; config = {{ }}; overlays = [ ]; }}; in
      import {REPOSITORY}/python/carrel/packages/expressions/index.nix {{
        inherit pkgs;
        names = [ "jq" "git" "python3" ];
        own.mytool = pkgs.runCommand "mytool" {{ }} ''
          mkdir -p $out/bin
          echo 'echo mine' > $out/bin/mytool
          chmod +x $out/bin/mytool
        '';
        environment.git.GIT_EXEC_PATH = "${{pkgs.git}}/lib/git-core";
      }}"""
    store = built.state / "nix"
    done = subprocess.run(
        ["nix-build", "--out-link", str(built.state / "index"), "--store", str(store),
         "--option", "substitute", "false", "--option", "substituters", "",
         "--option", "build-users-group", "", "--option", "sandbox-paths", "", "-E", expression],
        capture_output=True, text=True, check=False, timeout=300,
        env={"PATH": os.environ["PATH"], "HOME": str(built.state), "USER": "test", "NIX_CONF_DIR": str(built.state)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Path(f"{store}{done.stdout.strip()}")


@contextmanager
def built_sample() -> Iterator[Built]:
    """The environment of the sample's packages, in a state directory that every uid may pass through."""
    fetched()
    with reachable() as state:
        userland = _build(state)
        # The sandboxes of tests are not their own uid's.
        for path in (state / "envs", state / "nix"):
            path.chmod(0o755)
        yield Built(state, userland)
        for path in state.iterdir():
            remove(path)


def _build(state: Path) -> Userland:
    """Build the sample in ``state``, beginning with a copy of a store that holds what was built of it before.

    Nix evaluates and looks at all of it anew, and builds what is not in there. One process at a time builds the first.
    """
    source = NixSource(SET, state_dir=state)
    STORES.mkdir(parents=True, exist_ok=True)
    with (STORES / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = STORES / f"{os.geteuid()}-{_inputs()}"
        if not before.is_dir():
            userland = asyncio.run(source.build(PACKAGES, log=print))
            for old in STORES.glob(f"{os.geteuid()}-*"):
                remove(old)
            part = STORES / f"{before.name}.part"
            _copy(state / "nix", part)
            part.rename(before)
            return userland
        _copy(before, state / "nix")
    return asyncio.run(source.build(PACKAGES, log=print))


def _inputs() -> str:
    """A digest of what the sample is made of."""
    made_of = hashlib.sha256()
    for directory in (
        REPOSITORY / "tests" / "packageset",
        REPOSITORY / "python" / "carrel" / "packages" / "expressions",
    ):
        for path in sorted(directory.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                made_of.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    return made_of.hexdigest()[:16]


def _copy(store: Path, to: Path) -> None:
    subprocess.run(("cp", "-a", "--reflink=auto", str(store), str(to)), check=True, timeout=120)


def verify(store: Path) -> None:
    """Compare all of ``store`` with its hashes."""
    done = subprocess.run(
        ["nix", "--extra-experimental-features", "nix-command", "store", "verify", "--all", "--no-trust", "--store",
         str(store)],
        capture_output=True, text=True, check=False, timeout=120,
        env={"PATH": os.environ["PATH"], "HOME": str(store.parent), "USER": "test"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
