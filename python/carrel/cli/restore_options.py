"""What `carrel restore` was told; it knows nothing of a command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """``place``: where the backups are, None as declared. ``tenants``: only these, all that are declared by default.

    ``when`` `first`: as `empty`, once, where there is no state yet. ``git`` and ``placement`` are as a gateway has
    them. ``skip_damaged``: files that are not whole in the store are left out.
    """

    state_dir: Path
    tenants_dir: Path
    secrets_dir: Path | None
    place: str | None
    when: Literal["empty", "always", "first"]
    tenants: tuple[str, ...]
    dry_run: bool
    json: bool
    git: Path | None = None
    placement: str | None = None
    skip_damaged: bool = False
