"""What a repository's objects hold: the lock to its key, its list of backups, a backup's manifest, and its entries."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from carrel.ids import TENANT_ID_PATTERN
from carrel.objects.protocol import ObjectDamaged

FORMAT: Final = 1
BACKUP_ID_PATTERN: Final = r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$"
PIECE_PATTERN: Final = r"^[0-9a-f]{64}$"
MOST_BACKUPS: Final = 2000
MOST_LEFT_OUT_NAMED: Final = 100
MOST_DAMAGED_LISTED: Final = 20

PieceName = Annotated[str, Field(pattern=PIECE_PATTERN)]
BackupId = Annotated[str, Field(pattern=BACKUP_ID_PATTERN)]
Count = Annotated[int, Field(ge=0, le=1 << 60)]


class OfLaterVersion(ObjectDamaged):
    """What opens and is not as this version writes it: a later one may have."""


def rare() -> Any:
    """A field that is written only where there is something in it, so that older versions read all others."""
    return Field((), max_length=MOST_LEFT_OUT_NAMED, exclude_if=lambda value: not value)


class Stored(BaseModel):
    """Base of what is stored: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class WrappedKey(Stored):
    """The repository's key, sealed by a version of the master key."""

    version: Annotated[int, Field(ge=1, le=0xFFFF)]
    sealed: Annotated[str, Field(max_length=1024)]


class RepositoryFile(Stored):
    """`repository.json`, in the clear: whose it is, and its key as the vault seals a secret."""

    format: Literal[1] = 1
    tenant: Annotated[str, Field(pattern=TENANT_ID_PATTERN)]
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    created: datetime
    key: WrappedKey


class BackupInfo(Stored):
    """One backup in the list. ``bytes`` is what it restores to, ``sent`` what it added to the store.

    ``damaged`` names files that were damaged when it was made: they are in it as they were, or could not be read.
    ``lost`` names files of which the store lost content since, as far as was found out: all else is still there.
    """

    id: BackupId
    at: datetime
    host: Annotated[str, Field(max_length=256)]
    files: Count
    bytes: Count
    sent: Count
    left_out: Count = 0
    revision: str = ""
    damaged: tuple[str, ...] = rare()
    lost: tuple[str, ...] = rare()


class Collecting(Stored):
    """Somebody removes pieces until then at the latest."""

    by: Annotated[str, Field(max_length=64)]
    until: datetime


class Head(Stored):
    """The list of backups, newest last. Every change of a repository replaces this, on condition that it is the last.

    ``collections`` counts how often pieces were removed: who began before another one looks anew at what there is.
    """

    format: Literal[1] = 1
    generation: Count = 0
    collections: Count = 0
    backups: tuple[BackupInfo, ...] = ()
    collecting: Collecting | None = None

    def find(self, backup_id: str) -> BackupInfo | None:
        """The backup of that id."""
        return next((one for one in self.backups if one.id == backup_id), None)


class LeftOut(Stored):
    """A name that is not in the backup, and why."""

    path: str
    why: str


class Origin(Stored):
    """Where a backup was made: ``revision`` is that of the tenant's effective configuration, ``declared`` of all."""

    host: str
    carrel: str
    revision: str
    declared: str
    commit: str | None = None


class Manifest(Stored):
    """One backup. ``index`` are the pieces that hold its entries, one JSON document a line, in order of their paths.

    ``holes`` are those of its ``bytes`` that take no room.
    """

    format: Literal[1] = 1
    id: BackupId
    tenant: Annotated[str, Field(pattern=TENANT_ID_PATTERN)]
    at: datetime
    origin: Origin
    index: tuple[PieceName, ...]
    entries: Count
    files: Count
    bytes: Count
    holes: Count = 0
    left_out: Count = 0
    left_out_named: Annotated[tuple[LeftOut, ...], Field(max_length=MOST_LEFT_OUT_NAMED)] = ()
    damaged: tuple[LeftOut, ...] = rare()


@dataclass(frozen=True, slots=True)
class Hole:
    """So many bytes of a file that were never written, and take no room."""

    length: int


Block = bytes | Hole


class Part(Stored):
    """``length`` bytes from ``offset`` of a piece; without a piece they are a hole."""

    piece: PieceName | Literal[""] = ""
    offset: Annotated[int, Field(ge=0, le=16 << 20)] = 0
    length: Annotated[int, Field(ge=0, le=1 << 60)]

    @model_validator(mode="after")
    def _within_a_piece(self) -> Self:
        if self.piece and self.length > 16 << 20:
            raise ValueError("a part is longer than a piece can be")
        return self


class Entry(Stored):
    """One name in a tenant's directory. ``seen`` tells a file that did not change since from one that did.

    ``sha256`` is of the content without its holes.
    """

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    kind: Literal["file", "directory", "link"]
    mode: Annotated[int, Field(ge=0, le=0o777)] = 0o600
    mtime: int = 0
    size: Count = 0
    sha256: str = ""
    parts: tuple[Part, ...] = ()
    target: Annotated[str, Field(max_length=4096)] = ""
    seen: tuple[int, ...] = ()

    @property
    def order(self) -> tuple[str, ...]:
        """What entries are ordered by: a directory, then what is in it."""
        return tuple(self.path.split("/"))


M = TypeVar("M", RepositoryFile, Head, Manifest, Entry)


def parsed(model: type[M], data: bytes, what: str) -> M:
    """What ``data`` holds; raises OfLaterVersion."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise OfLaterVersion(
            f"The {what} of the backup is not as this version writes it ({where or 'not JSON'}): a later version of "
            "Carrel may have."
        ) from None  # fmt: skip
