"""Drift: where what is found differs from what Carrel made, though nothing that is declared has changed. Pure."""

import stat
from dataclasses import dataclass
from typing import Final, Literal

DriftKind = Literal[
    "directory_missing", "directory_kind", "directory_owner", "directory_mode", "directory_acl", "part_missing",
    "tokens_changed", "file_uncommitted",
]  # fmt: skip
KINDS: Final[tuple[DriftKind, ...]] = (
    "directory_missing", "directory_kind", "directory_owner", "directory_mode", "directory_acl", "part_missing",
    "tokens_changed", "file_uncommitted",
)  # fmt: skip
MODE: Final = 0o700


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference. ``mendable`` is what Carrel can put right without losing anything."""

    kind: DriftKind
    path: str
    found: str
    wanted: str
    mendable: bool = True

    def __str__(self) -> str:
        return f"{self.path}: {self.found}, where {self.wanted} is wanted"


def uncommitted(file: str) -> Drift:
    """A declaration that is in force as no commit has it: whoever looks into the history does not find it."""
    return Drift("file_uncommitted", file, "changes that are in no commit", "a commit of them", mendable=False)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is at a tenant's directory. ``mode`` is None where nothing is there; ``missing`` are parts that it lacks."""

    mode: int | None
    uid: int = 0
    acl: bool = False
    missing: tuple[str, ...] = ()
    tokens_changed: bool = False


def drift_of(tenant: str, seen: Seen, *, uid: int) -> tuple[Drift, ...]:
    """How the state directory of ``tenant`` differs from what the gateway of ``uid`` made."""
    path = f"tenants/{tenant}"
    if seen.mode is None:
        return (Drift("directory_missing", path, "nothing", "a directory"),)
    if not stat.S_ISDIR(seen.mode):
        return (Drift("directory_kind", path, "no directory", "a directory", mendable=False),)
    found = []
    if seen.uid != uid:
        found.append(Drift("directory_owner", path, f"owner {seen.uid}", f"owner {uid}", mendable=False))
    if stat.S_IMODE(seen.mode) != MODE:
        found.append(Drift("directory_mode", path, f"mode {stat.S_IMODE(seen.mode):04o}", f"mode {MODE:04o}"))
    if seen.acl:
        found.append(Drift("directory_acl", path, "an access list", "none"))
    found += [Drift("part_missing", f"{path}/{part}", "nothing", "a directory") for part in seen.missing]
    if seen.tokens_changed:
        wanted = "what the gateway wrote"
        found.append(Drift("tokens_changed", f"{path}/credentials/tokens.json", "another content", wanted))
    return tuple(found)
