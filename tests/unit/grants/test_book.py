"""The file of a tenant's requests."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from carrel.grants.book import KEPT, Grant, new_id, read, write
from carrel.ids import SessionId
from tests.fakes.tenants import make_tenant

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def grant(**more: object) -> Grant:
    return Grant.model_validate(
        {"id": new_id(), "kind": "host", "what": "a.com:443", "reason": "", "agent": "main",
         "session_id": SessionId("s"), "asked": NOW, **more}
    )  # fmt: skip


def test_what_is_over_goes_first_where_there_are_many(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path)
    old = [grant(decision="1h", decided=NOW - timedelta(days=1)) for _ in range(KEPT)]
    live = [grant(), grant(decision="always", decided=NOW)]
    kept = write(tenant, [*live, *old], NOW)
    assert len(kept) == KEPT
    assert kept[:2] == live
    assert read(tenant) == kept
    tenant.root.close()


def test_where_each_stands() -> None:
    assert grant().state(NOW) == "waiting"
    assert grant(decision="deny", decided=NOW).state(NOW) == "denied"
    assert grant(decision="once", decided=NOW).state(NOW) == "granted"
    assert grant(decision="once", decided=NOW, used=NOW - timedelta(minutes=1)).state(NOW) == "over"
    assert grant(decision="1h", decided=NOW + timedelta(hours=1)).state(NOW) == "over", "a clock that went back"
