"""The table of what `carrel doctor` looks at on the gateway's own machine, in the order in which one rests on another.

A row is a function of what is known by then. Another thing to look at is another row.
"""

import os
import resource
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from carrel.cli import by_git, credentials, installation, keepings, machine, outside
from carrel.cli.findings import Finding
from carrel.clock import SystemClock
from carrel.declare.gateway import Gateway
from carrel.declare.load import Tree
from carrel.errors import CarrelError


@dataclass
class Seen:
    """What the rows share: the gateway's answer for its status, or why there is none, and where things are."""

    answer: object
    state_dir: Path
    tenants_dir: Path
    secrets_dir: Path | None
    offline: bool = False
    launcher: Path | None = None

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

    @property
    def gateway(self) -> Gateway | None:
        """What the operator declares, where it can be read."""
        return self.tree.operators.gateway if self.tree is not None and self.tree.operators is not None else None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


Look = Callable[[Seen], Iterable[Finding]]

LOOKS: Final[tuple[Look, ...]] = (
    lambda _: [machine.kernel(os.uname().release)],
    lambda _: [machine.opening()],
    lambda _: machine.bubblewrap(),
    lambda seen: [machine.filters(Path("/proc/sys"), holds=seen.holds)],
    lambda seen: machine.namespaces(Path("/proc/sys"), holds=seen.holds),
    lambda seen: [] if seen.sandbox is None else [seen.sandbox],
    lambda seen: [] if seen.serves else [machine.cgroups()],
    lambda seen: [] if seen.launcher is None else [machine.launcher(seen.launcher, _text("/proc/net/unix"))],
    lambda seen: [] if seen.serves else [machine.files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])],
    lambda seen: machine.state(seen.state_dir),
    lambda seen: keepings.file_system(seen.state_dir, _text("/proc/self/mountinfo")),
    lambda seen: keepings.owners(seen.state_dir),
    lambda seen: [machine.clock(time.time(), machine.newest(seen.state_dir / "audit"))],
    lambda seen: installation.vault(seen.state_dir, seen.secrets_dir, serves=seen.serves),
    lambda seen: installation.declarations(seen.tenants_dir, seen.read),
    lambda seen: [] if seen.tree is None else [by_git.history(seen.tenants_dir, os.geteuid())],
    lambda seen: [] if seen.tree is None else installation.secrets(seen.tree, seen.secrets_dir),
    lambda seen: [] if seen.tree is None else installation.own_secrets(seen.tree, seen.secrets_dir, seen.state_dir),
    lambda seen: credentials.readable(seen.secrets_dir, seen.state_dir),
    lambda seen: [] if seen.tree is None else credentials.admin_keys(seen.tree, SystemClock().now()),
    lambda seen: [] if seen.tree is None else credentials.declared_tokens(seen.tree, SystemClock().now()),
    lambda seen: credentials.issued_tokens(seen.state_dir, SystemClock().now()),
    lambda seen: [] if seen.tree is None else credentials.prices(seen.tree),
    lambda seen: by_git.push(seen.state_dir),
    lambda seen: keepings.record(seen.state_dir),
    lambda seen: keepings.ledgers(seen.state_dir, serves=seen.serves),
    lambda seen: (
        []
        if seen.tree is None or seen.gateway is None
        else keepings.backed_up(seen.state_dir, seen.gateway, seen.tree, SystemClock().now())
    ),
    lambda seen: [] if seen.gateway is None or seen.offline else outside.backup_place(seen.gateway, seen.secrets_dir),
    lambda seen: [] if seen.gateway is None or seen.offline else outside.providers(seen.gateway, seen.secrets_dir),
    lambda seen: (
        [] if seen.gateway is None or seen.offline else outside.certificates(list(seen.gateway.browser.origins))
    ),
    lambda seen: [] if seen.tree is None else [installation.packages(seen.tree, seen.state_dir)],
    lambda seen: [] if seen.tree is None else machine.runtimes(installation.containers(seen.tree), seen.runtimes),
)
