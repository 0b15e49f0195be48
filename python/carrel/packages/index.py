"""The index of prebuilt packages: what the machine has built beforehand, by name.

It is made by ``expressions/index.nix`` (at a NixOS switch, or by hand), and says all that an environment of its
packages needs, so that no Nix is needed to use it.
The format is described in docs/explanation/nix.md.
"""

import json
import os
import platform
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from carrel.declare.base import PackageName
from carrel.packages.protocol import PackageError

WHERE: Final = Path("/etc/carrel/packages.json")
"""Where `services.carrel.packages` puts it."""
FORMAT: Final = "carrel-package-index"
VERSION: Final = 1
MAX_BYTES: Final = 128 << 20

_PATH: Final = r"/nix/store/[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+._?=-]{1,211}"
StorePath = Annotated[str, Field(pattern=rf"^{_PATH}$")]
InStore = Annotated[str, Field(pattern=rf"^{_PATH}(/[0-9A-Za-z_+@=-][0-9A-Za-z._+@=-]*)*$", max_length=1024)]
Variable = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)


class IndexedPackage(_Part):
    """One package: where it is, and all store paths that it needs, itself among them."""

    path: StorePath
    version: Annotated[str, Field(max_length=200)] = ""
    description: Annotated[str, Field(max_length=2000)] = ""
    environment: dict[Variable, InStore] = Field(default_factory=dict)
    closure: Annotated[tuple[StorePath, ...], Field(min_length=1, max_length=100_000)]


class PackageIndex(_Part):
    """The document. ``base`` names the packages that every environment has."""

    format: Literal["carrel-package-index"]
    version: Literal[1]
    system: str
    base: tuple[PackageName, ...]
    packages: dict[PackageName, IndexedPackage]


def read(file: Path) -> PackageIndex:
    """The index in ``file``; raises PackageError, which says what is wrong with it."""
    try:
        with file.open("rb") as opened:
            if os.fstat(opened.fileno()).st_size > MAX_BYTES:
                raise PackageError(f"The package index is larger than {MAX_BYTES >> 20} MiB: it is not one.")
            text = opened.read()
    except OSError as error:
        raise PackageError(
            f"There is no package index ({error.strerror}): say `services.carrel.packages.names` on NixOS and switch, "
            f"or name the file in packages.path; without it, it is {WHERE}."
        ) from error
    return _understood(text)


def _understood(text: bytes) -> PackageIndex:
    try:
        index = PackageIndex.model_validate_json(text)
    except ValidationError as error:
        raise PackageError(f"The package index cannot be used: {_what_is_wrong(text, error)}.") from error
    machine = f"{platform.machine()}-linux"
    if index.system != machine:
        raise PackageError(f"The package index is for {index.system}, and this machine is {machine}.")
    for name in index.base:
        if name not in index.packages:
            raise PackageError(f"The package index cannot be used: its base set names {name}, which it does not have.")
    for name, package in index.packages.items():
        if package.path not in package.closure:
            raise PackageError(f"The package index cannot be used: the closure of {name} lacks {name} itself.")
    return index


def _what_is_wrong(text: bytes, error: ValidationError) -> str:
    try:
        document = json.loads(text)
    except ValueError:
        return "it is not JSON"
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return f"it does not say that its format is {FORMAT}"
    if document.get("version") != VERSION:
        return f"it is of version {str(document.get('version'))[:20]}, and this Carrel reads version {VERSION}"
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])[:200]}: {first['msg']}"
