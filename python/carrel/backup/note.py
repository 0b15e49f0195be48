"""`backups.json` in a tenant's directory: when it was backed up last, so that the schedule asks no store."""

from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from carrel.errors import CarrelError, NotFound
from carrel.tenancy.paths import TenantRoot

FILE: Final = "backups.json"
_MOST: Final = 64 << 10


class Note(BaseModel):
    """What was done last. ``failed`` is why the newest try did not succeed, None where it did.

    ``damaged``: what was read back since the last backup was not whole.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    last: datetime | None = None
    id: str | None = None
    to: str | None = None
    tried: datetime | None = None
    failed: str | None = None
    verified: datetime | None = None
    damaged: bool = False


def read_note(root: TenantRoot) -> Note:
    """The note; an empty one where there is none that can be read. Blocking."""
    try:
        return Note.model_validate_json(root.read(FILE, limit=_MOST))
    except (NotFound, ValidationError, CarrelError):
        return Note()


def write_note(root: TenantRoot, **changes: object) -> Note:
    """Change the note. Blocking."""
    note = read_note(root).model_copy(update=changes)
    root.replace(FILE, note.model_dump_json(indent=1).encode())
    return note
