"""The real package set and the sample's environment of it, built by the real Nix into a store of its own."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel.packages.closures import remove
from carrel.packages.nix import NixSource
from carrel.packages.sources import debian_set
from carrel.tenancy.userland import Userland
from tests.fakes.sandboxed import reachable

REPOSITORY: Final = Path(__file__).resolve().parents[2]
SET: Final = debian_set(REPOSITORY)
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


@contextmanager
def built_sample() -> Iterator[Built]:
    """The environment of the sample's packages, in a state directory that every uid may pass through."""
    fetched()
    with reachable() as state:
        userland = asyncio.run(NixSource(SET, state_dir=state).build(PACKAGES, log=print))
        # The sandboxes of tests are not their own uid's.
        for path in (state / "envs", state / "nix"):
            path.chmod(0o755)
        yield Built(state, userland)
        for path in state.iterdir():
            remove(path)


def verify(store: Path) -> None:
    """Compare all of ``store`` with its hashes."""
    done = subprocess.run(
        ["nix", "--extra-experimental-features", "nix-command", "store", "verify", "--all", "--no-trust", "--store",
         str(store)],
        capture_output=True, text=True, check=False, timeout=120,
        env={"PATH": os.environ["PATH"], "HOME": str(store.parent), "USER": "test"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
