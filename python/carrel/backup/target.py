"""From what is declared to a store: where a tenant's backups are, and with which keys it is reached."""

from typing import Protocol

from carrel.backup.retention import Keep
from carrel.declare.backup import BackupConfig, KeepBackups, TenantBackup
from carrel.declare.base import SecretRef
from carrel.errors import CarrelError, InvalidRequest
from carrel.objects.location import Location, parse_location
from carrel.objects.s3 import S3Options
from carrel.secrets import Secret


class NoTarget(CarrelError):
    """Nothing says where backups go."""

    code = "no_backup_target"


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
    return place


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
