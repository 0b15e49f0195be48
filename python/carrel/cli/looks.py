"""The table of what `carrel doctor` looks at on the gateway's own machine, in the order in which one rests on another.

A row is a function of what is known by then. Another thing to look at is another row.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from carrel.cli import installation, machine
from carrel.cli.findings import Finding
from carrel.declare.load import Tree
from carrel.errors import CarrelError


@dataclass
class Seen:
    """What the rows share: the gateway's answer for its status, or why there is none, and where things are."""

    answer: object
    state_dir: Path
    tenants_dir: Path
    secrets_dir: Path | None

    @property
    def serves(self) -> bool:
        """Whether a gateway answers, and so tells of itself what need not be tried."""
        return not isinstance(self.answer, CarrelError)

    @cached_property
    def sandbox(self) -> Finding | None:
        """How a sandbox went that was started to see; None where the gateway has said how its own do."""
        said = isinstance(self.answer, dict) and "sandbox" in self.answer and shutil.which("bwrap") is not None
        return None if said else machine.tried()

    @property
    def holds(self) -> bool:
        """Whether sandboxes hold here."""
        if self.sandbox is not None:
            return self.sandbox.state == "ok"
        return isinstance(self.answer, dict) and self.answer["sandbox"] == "bwrap"

    @property
    def runtimes(self) -> Mapping[str, str | None]:
        """What the gateway has said of the OCI runtimes that it tried."""
        tried = self.answer.get("runtimes", ()) if isinstance(self.answer, dict) else ()
        return {one["name"]: one["problem"] for one in tried if isinstance(one, dict)}

    @cached_property
    def read(self) -> Tree | CarrelError:
        """What is declared, or why it cannot be read."""
        return installation.read(self.tenants_dir)

    @property
    def tree(self) -> Tree | None:
        """What is declared, where it can be read."""
        return self.read if isinstance(self.read, Tree) else None


Look = Callable[[Seen], Iterable[Finding]]

LOOKS: Final[tuple[Look, ...]] = (
    lambda _: [machine.kernel(os.uname().release)],
    lambda _: [machine.opening()],
    lambda seen: [machine.filters(Path("/proc/sys"), holds=seen.holds)],
    lambda seen: machine.namespaces(Path("/proc/sys"), holds=seen.holds),
    lambda seen: [] if seen.sandbox is None else [seen.sandbox],
    lambda seen: [] if seen.serves else [machine.cgroups()],
    lambda seen: machine.state(seen.state_dir),
    lambda seen: [machine.clock(time.time(), machine.newest(seen.state_dir / "audit"))],
    lambda seen: installation.vault(seen.state_dir, seen.secrets_dir, serves=seen.serves),
    lambda seen: installation.declarations(seen.tenants_dir, seen.read),
    lambda seen: [] if seen.tree is None else [installation.history(seen.tenants_dir, os.geteuid())],
    lambda seen: [] if seen.tree is None else installation.secrets(seen.tree, seen.secrets_dir),
    lambda seen: [] if seen.tree is None else installation.own_secrets(seen.tree, seen.secrets_dir, seen.state_dir),
    lambda seen: [] if seen.tree is None else [installation.packages(seen.tree, seen.state_dir)],
    lambda seen: [] if seen.tree is None else machine.runtimes(installation.containers(seen.tree), seen.runtimes),
)
