"""What the start prints for a person: where it is, who is there, what holds, and what to try next."""

import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from carrel import __version__
from carrel.tenancy.handle import Tenant


@dataclass(frozen=True, slots=True)
class Announcement:
    """The start-up lines. ``token`` is shown where one was just issued, and never again.

    ``state_named``: commands find this gateway by its state directory only where they are told it. ``by_git``: what is
    declared is pushed here, or pulled.
    """

    url: str
    state_dir: Path
    tenants_dir: Path
    tenants: Sequence[str]
    userland: str
    sandbox: str
    notes: Sequence[str]
    token: str | None
    token_tenant: str | None
    state_named: bool = False
    by_git: bool = False

    def write(self, out: TextIO | None = None) -> None:
        """Print and flush, so that whoever waits for readiness has the token already."""
        stream = out or sys.stdout
        stream.write("\n".join(self.lines()) + "\n")
        stream.flush()

    def lines(self) -> list[str]:
        """The lines in order; the token stands alone on its own."""
        shown = ", ".join(self.tenants[:12]) + (f" and {len(self.tenants) - 12} more" if len(self.tenants) > 12 else "")
        nobody = "none yet: none was pushed or pulled" if self.by_git else "none yet: add a file to tenants.d"
        lines = [
            f"carrel {__version__}",
            f"  address   {self.url}",
            f"  tenants   {shown or nobody}",
            f"  declared  {self.tenants_dir}",
            f"  state     {self.state_dir}",
            f"  userland  {self.userland}",
            f"  sandbox   {self.sandbox}",
            *(f"  note      {note}" for note in self.notes),
        ]
        if self.token_tenant is None:
            return lines
        where = f" --state-dir {shlex.quote(str(self.state_dir))}" if self.state_named else ""
        if self.token is not None:
            lines += [f"  token for {self.token_tenant}, shown this once:", self.token]
        else:
            lines.append(
                f"  token     {self.token_tenant} has one already; "
                f"`{command()} tenants token rotate {self.token_tenant}{where}` makes another"
            )
        lines += ["Try:", f'  {command()} chat {self.token_tenant} "run: uname -a; ls | wc -l"{where}']
        return lines


def declared(tenants: Iterable[Tenant]) -> list[str]:
    """Who is there by name, with why nothing runs for whom nothing does. Whose file is gone is not there."""
    return sorted(_named(one) for one in tenants if not one.removed)


def _named(tenant: Tenant) -> str:
    if not tenant.ready:
        return f"{tenant.id} (broken)"
    return f"{tenant.id} (suspended)" if tenant.suspended else str(tenant.id)


def command() -> str:
    """How this program was called, as short as it can be said from here."""
    called = Path(sys.argv[0])
    if not called.is_absolute():
        return str(called)
    try:
        return str(called.relative_to(Path.cwd()))
    except ValueError:
        return str(called)
