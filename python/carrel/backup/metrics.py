"""What a monitor asks of backups: when each tenant had one last, how large it was, how long it took, what failed.

The age is counted when it is asked for, so that it grows also where nothing is backed up any more.
"""

from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from carrel.backup.catalogue import BackupInfo
from carrel.backup.note import Note
from carrel.clock import Clock
from carrel.ids import TenantId

_TENANT: Final = ("tenant",)


class BackupMetrics:
    """One for a gateway."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._last = Gauge(
            "carrel_backup_last_success_timestamp_seconds", "When the newest backup was made.", _TENANT,
            registry=registry,
        )  # fmt: skip
        self._age = Gauge("carrel_backup_age_seconds", "How old the newest backup is.", _TENANT, registry=registry)
        self._verified = Gauge(
            "carrel_backup_last_verified_timestamp_seconds", "When the newest backup was read back whole.", _TENANT,
            registry=registry,
        )  # fmt: skip
        self._bytes = Gauge("carrel_backup_bytes", "Content of the newest backup.", _TENANT, registry=registry)
        self._seconds = Gauge(
            "carrel_backup_duration_seconds", "How long the newest backup took.", _TENANT, registry=registry
        )
        self._sent = Counter("carrel_backup_sent_bytes", "Bytes sent for backups.", _TENANT, registry=registry)
        self._failures = Counter(
            "carrel_backup_failures", "Backups, restores and looks back that failed.", ("tenant", "what", "code"),
            registry=registry,
        )  # fmt: skip

    def known(self, tenant: TenantId, note: Note) -> None:
        """What was done before this gateway started."""
        if note.last is not None:
            self._made(tenant, note.last)
        if note.verified is not None:
            self._verified.labels(tenant).set(note.verified.timestamp())

    def made(self, tenant: TenantId, info: BackupInfo, *, seconds: float) -> None:
        """A backup was made now."""
        self._made(tenant, self._clock.now())
        self._bytes.labels(tenant).set(info.bytes)
        self._seconds.labels(tenant).set(seconds)
        self._sent.labels(tenant).inc(info.sent)

    def verified(self, tenant: TenantId) -> None:
        """The newest was read back now, and is whole."""
        self._verified.labels(tenant).set(self._clock.now().timestamp())

    def failed(self, tenant: TenantId, what: str, code: str) -> None:
        """A `backup`, `verify` or `restore` failed by an error's code; `damaged` is a backup that is not whole."""
        self._failures.labels(tenant, what, code).inc()

    def forget(self, tenant: TenantId) -> None:
        """The tenant is gone: nobody waits for its next backup."""
        for gauge in (self._last, self._age, self._verified, self._bytes, self._seconds):
            try:
                gauge.remove(tenant)
            except KeyError:
                continue

    def _made(self, tenant: TenantId, when: datetime) -> None:
        self._last.labels(tenant).set(when.timestamp())
        self._age.labels(tenant).set_function(lambda: max(0.0, (self._clock.now() - when).total_seconds()))
