"""The models of `tenants.backup`, `tenants.backups.list` and `tenants.restore`."""

from typing import Annotated

from pydantic import Field

from carrel.wire.rpc import OwnTenant, Page, Result


class BackupParams(OwnTenant):
    """Parameters of `tenants.backup`. Where backups go is the operator's to say."""

    bucket: Annotated[str, Field(max_length=64)] | None = Field(None, description="Only as the operator declares it.")
    prefix: Annotated[str, Field(max_length=1024)] | None = Field(None, description="Only as the operator declares it.")


class BackupMade(Result):
    """The new backup. ``size`` is in bytes, of what it restores to."""

    key: str
    tenant_id: str
    timestamp: int
    size: int


class BackupsParams(OwnTenant, Page):
    """Parameters of `tenants.backups.list`."""


class BackupLine(Result):
    """One backup."""

    key: str
    size: int
    last_modified: int
    tenant_id: str
    timestamp: int


class Backups(Result):
    """Newest first."""

    backups: tuple[BackupLine, ...]
    next: str | None = None


class RestoreParams(OwnTenant):
    """Parameters of `tenants.restore`. ``key`` is one that `tenants.backups.list` gave."""

    key: Annotated[str, Field(min_length=1, max_length=128)]


class RestoreDone(Result):
    """The restore is prepared and checked when this comes; the tenant rests for the moment that the swap takes."""

    tenant_id: str
    restored_at: int
    source_key: str
