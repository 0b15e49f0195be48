"""What `carrel restore` was told; it knows nothing of a command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """``place``: where the backups are, None as declared. ``tenants``: only these, all that are declared by default."""

    state_dir: Path
    tenants_dir: Path
    secrets_dir: Path | None
    place: str | None
    when: Literal["empty", "always"]
    tenants: tuple[str, ...]
    dry_run: bool
    json: bool
