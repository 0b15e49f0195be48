"""The names of all packages of a source: found out once for each state of it, and kept beside its environments.

All of it blocks.
"""

import contextlib
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from carrel.packages.protocol import BuildFailed, PackageError, fits

_FILE: Final = "catalogue.json"
_NAMES: Final = TypeAdapter(tuple[str, ...])


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    key: str
    names: tuple[str, ...]


class _Listed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    packages: tuple[str, ...]


def kept(envs: Path, key: str) -> tuple[str, ...] | None:
    """The names that were found out for ``key``."""
    try:
        found = _Kept.model_validate_json((envs / _FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    return found.names if found.key == key else None


def keep(envs: Path, key: str, names: tuple[str, ...]) -> None:
    """Keep them, in place of those of another key. Where that fails they are found out again."""
    with contextlib.suppress(OSError):
        staged = envs / f".{_FILE}"
        staged.write_text(_Kept(key=key, names=names).model_dump_json(), encoding="utf-8")
        staged.rename(envs / _FILE)


def listed(file: Path) -> tuple[str, ...]:
    """The names in a JSON file that lists them as ``packages``."""
    try:
        return _Listed.model_validate_json(file.read_bytes()).packages
    except (OSError, ValidationError) as error:
        raise PackageError("What packages there are cannot be read: make the package set anew.") from error


def understood(printed: bytes) -> tuple[str, ...]:
    """The names in what Nix printed; what cannot be a package's name is none."""
    try:
        return tuple(name for name in _NAMES.validate_json(printed) if fits(name))
    except ValidationError as error:
        raise BuildFailed("What packages there are cannot be told: Nix printed something else.") from error
