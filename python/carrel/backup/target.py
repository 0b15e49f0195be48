"""From what is declared to a store: where a tenant's backups are, and with which keys it is reached."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from carrel.backup.retention import Keep
from carrel.declare.backup import BackupConfig, KeepBackups, TenantBackup
from carrel.declare.base import SecretRef
from carrel.errors import CarrelError, InvalidRequest
from carrel.ids import TenantId, parse_tenant_id
from carrel.objects.files import OF_BACKUPS, require_name
from carrel.objects.location import Location, parse_location
from carrel.objects.s3 import S3Options
from carrel.secrets import Secret


class NoTarget(CarrelError):
    """Nothing says where backups go."""

    code = "no_backup_target"


ARCHIVE: Final = ".tar.gz"
_OF_ITS_OWN: Final = OF_BACKUPS | {"head", "repository.json", "repository.copy.json", ".carrel-lock"}
"""Names beneath the declared place that backups have: no folder of anything else is called so."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far whoever asks may reach. ``anywhere``: to any place; others to what lies beneath the declared one.

    ``only``: whether a tenant is one of theirs; None for those to whom all are.
    """

    anywhere: bool = False
    only: Callable[[TenantId], bool] | None = None

    def sees(self, tenant: TenantId) -> bool:
        """Whether the tenant is one of theirs."""
        return self.only is None or self.only(tenant)


@dataclass(frozen=True, slots=True)
class ArchivePlace:
    """Where an archive is: a file's name in a folder."""

    folder: Location
    name: str

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"


class Secrets(Protocol):
    """The operator's secrets by name."""

    def get(self, name: str) -> Secret:
        """The secret; raises SecretMissing."""
        ...


def location_of(declared: BackupConfig, asked: str | None, *, anywhere: bool) -> Location:
    """Where to: what was ``asked`` for, or what is declared. Raises NoTarget, InvalidRequest.

    ``anywhere``: whoever asks may name any place. Others may name what is declared, or what lies beneath it.
    """
    if declared.to is None and asked is None:
        raise NoTarget("Nothing says where backups go: name a place, or declare `backup: {to: …}` in _gateway.yaml.")
    home = parse_location(declared.to) if declared.to is not None else None
    if asked is None:
        if home is None:
            raise NoTarget("Nothing says where backups go.")
        return home
    place = parse_location(asked)
    if not anywhere and (home is None or not place.within(home)):
        raise InvalidRequest(
            "That place is not beneath the one that _gateway.yaml declares, and only who is on the gateway's machine "
            "may name another.",
            param="to",
        )  # fmt: skip
    if home is not None and place.within(home):
        taken = _OF_ITS_OWN.intersection(place.prefix[len(home.prefix) :].split("/"))
        if taken:
            raise InvalidRequest(f"A folder `{min(taken)}` there is of backups themselves: name another.", param="to")
    return place


def archive_of(declared: BackupConfig, asked: str, reach: Reach, *, name: str | None = None) -> ArchivePlace:
    """The place of an archive; what ends in ``/`` has ``name`` beneath it. Raises NoTarget, InvalidRequest.

    Who sees only some tenants reaches only what lies beneath the declared place in a folder of one of them.
    """
    head, _, last = asked.rpartition("/")
    if not last:
        if name is None:
            raise InvalidRequest(f"{asked[:200]!r} is a folder: name the archive in it.", param="place")
        last = name
    if not last.endswith(ARCHIVE) or last == ARCHIVE:
        raise InvalidRequest(
            f"{last[:100]!r} is no archive's name: it ends in `{ARCHIVE}`, so that nothing else is taken for one.",
            param="to",
        )
    folder = location_of(declared, head, anywhere=reach.anywhere and reach.only is None)
    if OF_BACKUPS.intersection(folder.prefix.split("/")):
        raise InvalidRequest("A folder `pieces` or `manifests` is of backups: name another.", param="to")
    if reach.only is not None and not _is_theirs(declared, folder, reach.only):
        raise InvalidRequest(
            "This key is limited to some tenants: name a place in a folder of one of them, `TENANT/` beneath the place "
            "that _gateway.yaml declares.",
            param="to",
        )
    return ArchivePlace(folder, require_name(last))


def _is_theirs(declared: BackupConfig, folder: Location, theirs: Callable[[TenantId], bool]) -> bool:
    home = parse_location(declared.to) if declared.to is not None else None
    if home is None or not folder.within(home):
        return False
    first = folder.prefix[len(home.prefix) :].strip("/").partition("/")[0]
    try:
        return theirs(parse_tenant_id(first))
    except InvalidRequest:
        return False


def options_of(declared: BackupConfig, secrets: Secrets) -> S3Options:
    """How the declared store is reached; raises SecretMissing. Blocking."""

    def get(ref: SecretRef | None) -> Secret | None:
        return None if ref is None else secrets.get(ref.secret)

    return S3Options(
        endpoint=declared.endpoint, region=declared.region, access_key=get(declared.access_key),
        secret_key=get(declared.secret_key), session_token=get(declared.session_token),
        path_style=declared.path_style, conditional=declared.conditional_writes, dialect=declared.dialect,
    )  # fmt: skip


def keep_of(declared: BackupConfig, own: TenantBackup, asked: KeepBackups | None = None) -> Keep:
    """Which backups of a tenant stay: as its file says, else as was ``asked`` for, else as all tenants' do."""
    keep: KeepBackups = own.keep or asked or declared.keep
    return Keep(last=keep.last, daily=keep.daily, weekly=keep.weekly, monthly=keep.monthly)


def interval_of(declared: BackupConfig, own: TenantBackup) -> float | None:
    """Seconds between two backups that the schedule makes; None where it makes none."""
    if not own.enabled or declared.to is None:
        return None
    return own.every_seconds if own.every_seconds is not None else declared.every_seconds
