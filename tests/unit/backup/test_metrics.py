"""What a monitor sees of backups, also of those that were made before the gateway started."""

from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest

from carrel.backup.catalogue import BackupInfo
from carrel.backup.metrics import BackupMetrics
from carrel.backup.note import Note
from carrel.ids import TenantId
from tests.fakes.clock import FakeClock

ACME = TenantId("acme")
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def shown(registry: CollectorRegistry) -> dict[str, float]:
    lines = generate_latest(registry).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("carrel_") and "_created" not in line)
    return {name: float(value) for name, value in pairs}


def test_a_backup_is_told_and_grows_old() -> None:
    registry, clock = CollectorRegistry(), FakeClock(AT)
    metrics = BackupMetrics(registry, clock)
    info = BackupInfo(id="20260301T120000Z-00000000", at=AT, host="h", files=3, bytes=1000, sent=400)
    metrics.made(ACME, info, seconds=2.5)
    metrics.verified(ACME)
    metrics.failed(ACME, "backup", "forbidden")
    clock.advance(90)
    assert shown(registry) == {
        'carrel_backup_last_success_timestamp_seconds{tenant="acme"}': AT.timestamp(),
        'carrel_backup_last_verified_timestamp_seconds{tenant="acme"}': AT.timestamp(),
        'carrel_backup_age_seconds{tenant="acme"}': 90.0,
        'carrel_backup_bytes{tenant="acme"}': 1000.0,
        'carrel_backup_duration_seconds{tenant="acme"}': 2.5,
        'carrel_backup_sent_bytes_total{tenant="acme"}': 400.0,
        'carrel_backup_failures_total{code="forbidden",tenant="acme",what="backup"}': 1.0,
    }


def test_what_was_done_before_is_known_and_who_is_gone_is_forgotten() -> None:
    registry, clock = CollectorRegistry(), FakeClock(AT)
    metrics = BackupMetrics(registry, clock)
    metrics.known(ACME, Note())
    assert shown(registry) == {}
    metrics.known(ACME, Note(last=AT, verified=AT))
    clock.advance(10)
    assert shown(registry)['carrel_backup_age_seconds{tenant="acme"}'] == 10.0
    metrics.forget(ACME)
    metrics.forget(ACME)
    assert shown(registry) == {}
