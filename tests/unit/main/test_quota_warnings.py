from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from carrel.clock import SystemClock
from carrel.events.hub import Event, Hub, Subscription
from carrel.ids import parse_tenant_id
from carrel.main.quota_warnings import QuotaWarnings
from carrel.metering.warnings import SoftWarning
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory
from tests.fakes.patience import eventually
from tests.fakes.tenants import make_snapshot, make_tenant
from tests.unit.reconcile.test_administration import Record

END = datetime(2026, 3, 2, tzinfo=UTC)


async def test_a_warning_is_an_event_and_a_line_of_the_audit_log(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path)
    directory, hub, record, tasks = Directory(), Hub(clock=SystemClock()), Record(), Tasks("test")
    directory.publish(make_snapshot(tenant))
    told: list[Event] = []
    hub.subscribe(tenant, Subscription(None, ("quota",), told.append))
    warnings = QuotaWarnings(directory=directory, hub=hub, audit=record, tasks=tasks)
    warnings(SoftWarning(tenant.id, "cost_per_day_usd", Decimal("4.50"), Decimal(4), END))
    warnings(SoftWarning(parse_tenant_id("gone"), "disk_bytes", 9, 8, END))
    await eventually(lambda: len(record.lines) == 2)
    await tasks.close()
    assert [event.kind for event in told] == ["quota.warning"]
    assert '"quota":"cost_per_day_usd","used":"4.5","soft":"4","until":"2026-03-02T00:00:00+00:00"' in told[0].text
    assert sorted(record.lines) == [
        ("quota.warning", "cost_per_day_usd", "ok"), ("quota.warning", "disk_bytes", "ok")
    ]  # fmt: skip
    tenant.root.close()
