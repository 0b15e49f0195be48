"""The models of backups and restores in the control plane."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from carrel.declare.backup import KeepBackups
from carrel.ids import SESSION_ID_PATTERN
from carrel.wire.control import Answer, Order, TenantName

PlaceText = Annotated[str, Field(min_length=1, max_length=1024)]
Key = Annotated[str, Field(min_length=1, max_length=128)]
SessionText = Annotated[str, Field(pattern=SESSION_ID_PATTERN)]


class BackupOrder(Order):
    """A backup now."""

    to: PlaceText | None = Field(None, description="`s3://bucket/prefix` or `file:///directory`; default: as declared.")
    keep: KeepBackups | None = Field(
        None, description="Which backups stay there, where the tenant's file says nothing of it; default: as declared."
    )


class BackupView(Answer):
    """One backup. ``bytes`` is what it restores to, ``sent`` what it added to the store."""

    id: str
    tenant: str
    at: datetime
    host: str
    files: int
    bytes: int
    sent: int
    left_out: int = Field(0, description="Names that are not in it: sockets, pipes, links that lead out.")
    revision: str = Field("", description="Of the tenant's configuration as it was in force.")
    damaged: tuple[str, ...] = Field((), description="Files that were damaged: they are in it as they were, if at all.")
    lost: tuple[str, ...] = Field((), description="Files of which the store lost content: all else is there.")
    note: str | None = None


class BackupList(Answer):
    """A tenant's backups, newest first, and how the schedule stands."""

    tenant: str
    backups: tuple[BackupView, ...]
    next: str | None = Field(None, description="The cursor of the next page; null at the end.")
    last: datetime | None = None
    failed: str | None = Field(None, description="Why the newest try did not succeed.")
    verified: datetime | None = Field(None, description="When the newest one was last read back whole.")


class JobView(Answer):
    """What runs for a tenant. Sizes are bytes."""

    running: bool
    phase: str = "waiting"
    total: int = 0
    done: int = 0
    moved: int = 0
    files: int = 0
    eta_seconds: float | None = None


class VerifyOrder(Order):
    """Which backup to read back: the newest by default."""

    place: PlaceText | None = None
    backup: Key | None = None


class Verified(Answer):
    """What reading it back found."""

    tenant: str
    ok: bool
    problems: tuple[str, ...] = ()


class CollectOrder(Order):
    """Where to remove what need not stay, and what that is: see `BackupOrder`."""

    place: PlaceText | None = None
    keep: KeepBackups | None = None


class CollectedView(Answer):
    """What was removed."""

    tenant: str
    backups: tuple[str, ...] = ()
    pieces: int = 0
    bytes: int = 0
    uploads: int = Field(0, description="Of exports that broke off, and of which nothing came for a day.")


class RestoreOrder(Order):
    """What to bring back. Without a session it is the whole tenant."""

    place: PlaceText | None = Field(None, description="Where the backups are; default: as declared.")
    backup: Key | None = Field(None, description="Its id; the newest by default.")
    source: TenantName | None = Field(None, description="Whose backup; by default the tenant's own.")
    session: SessionText | None = Field(None, description="Only this session.")
    as_session: SessionText | None = Field(None, description="Bring the session back under this id.")
    replace: bool = Field(False, description="Replace a session of that id.")
    dry_run: bool = Field(False, description="Only say what would be done.")
    skip_damaged: bool = Field(False, description="Leave out files that are not whole in the store. Without a session.")


class RestoreView(Answer):
    """What was brought back, or with ``dry_run`` would be."""

    tenant: str
    source: str
    backup: str
    at: datetime
    files: int
    bytes: int
    sessions: int
    left_out: int = 0
    secrets_lost: tuple[str, ...] = Field((), description="Secrets that this host's master key does not open.")
    tokens_left_out: bool = Field(False, description="Tokens name the tenant that they were issued for.")
    kept_before: bool = Field(False, description="What was there is kept until it is confirmed or undone.")
    snapshots: int = Field(0, description="Copies of workspaces, which are in no backup: those that are here stay.")
    damaged: tuple[str, ...] = Field((), description="Files that were damaged when the backup was made.")
    put_by: tuple[str, ...] = Field((), description="Ledgers that are damaged now, and are kept as they were.")
    lost: tuple[str, ...] = Field((), description="Files that are left out: they are not whole in the store.")
    dry_run: bool = False


class RestoreDecision(Order):
    """What becomes of what was there before the last restore."""

    decision: Literal["confirm", "undo"]


class ExportOrder(Order):
    """Where an archive goes."""

    to: PlaceText = Field(
        description="`s3://bucket/prefix/NAME.tar.gz` or `file:///directory/NAME.tar.gz`; what ends in `/` is given a "
        "name by the tenant's id and the time. It lies beneath the declared place of backups."
    )
    replace: bool = Field(False, description="Replace an archive that is there.")


class ExportView(Answer):
    """An archive that was sent. ``bytes`` is its size, ``sha256`` the digest of the file."""

    tenant: str
    place: str
    at: datetime
    bytes: int
    sha256: str
    files: int
    content: int = Field(description="The bytes of the tenant's files, before they were packed.")
    left_out: int = Field(0, description="Names that are not in it.")


class FetchOrder(Order):
    """An archive that is fetched from a place, and how it is taken in."""

    place: PlaceText = Field(description="`s3://bucket/prefix/NAME.tar.gz` or `file:///directory/NAME.tar.gz`.")
    replace: bool = Field(False, description="What the tenant has is kept beside, until it is decided on.")
    sealed: bool = Field(False, description="Only with the seal of a master key that is here.")
    dry_run: bool = Field(False, description="All is judged, and nothing changed.")


class LookOrder(Order):
    """An archive at a place, and the tenant that it might become, which need not be declared."""

    place: PlaceText
    tenant: TenantName
    sealed: bool = False


class ImportOrder(Order):
    """How an archive is taken in."""

    replace: bool = False
    sealed: bool = False
    dry_run: bool = False


class ImportView(Answer):
    """What was taken in of an archive, or with ``dry_run`` would be."""

    tenant: str
    source: str = Field(description="What made the archive: `carrel`, or what it was imported from.")
    source_tenant: str
    files: int
    bytes: int
    sessions: int
    left_out: int = Field(0, description="Names that are not in the archive.")
    secrets_lost: tuple[str, ...] = Field((), description="Secrets that this host's master key does not open.")
    tokens_left_out: bool = Field(False, description="Tokens name the tenant that they were issued for.")
    kept_before: bool = Field(False, description="What was there is kept until it is confirmed or undone.")
    unchanged: bool = Field(False, description="It is what the tenant came from already: nothing was done.")
    seal: Literal["own", "other", "none"] = Field(
        "none", description="Who vouches for it: a master key that is here, another one, or nobody."
    )
    dry_run: bool = Field(False, description="It was only looked at.")
