import json
from datetime import datetime
from typing import Any

import pytest
from pydantic import TypeAdapter

from carrel.plan.drift import Seen, drift_of
from carrel.reconcile.rows import Row
from carrel.reconcile.status import TenantStatus
from tests.fakes.rows import SINCE, row

FAILED = json.dumps([[SINCE.isoformat(), "r0", "failed", "no \u00e9 there"], [SINCE.isoformat(), "r1", "applied", ""]])
ROWS = (row("acme"), row("bravo", removed=True, last=FAILED), row("c", drift=drift_of("c", Seen(None), uid=0)))


@pytest.mark.parametrize("one", ROWS)
def test_the_quick_json_says_what_the_status_says(one: Row) -> None:
    slow: Any = json.loads(TypeAdapter(TenantStatus).dump_json(one.status()))
    assert _timed(json.loads(one.json())) == _timed(slow)


def _timed(told: Any) -> Any:
    """The same with times as times: two ways of writing one are equal."""
    if isinstance(told, dict):
        times = ("at", "last_transition_time", "delete_at")
        return {k: datetime.fromisoformat(v) if k in times and v else _timed(v) for k, v in told.items()}
    return [_timed(one) for one in told] if isinstance(told, list) else told


def test_a_list_shows_the_headline() -> None:
    brief = [one.brief() for one in ROWS]
    assert [(b.id, b.state, b.reason) for b in brief] == [
        ("acme", "Ready", "Applied"), ("bravo", "Suspended", "Declared"), ("c", "Ready", "Applied"),
    ]  # fmt: skip


def test_conditions_and_results_are_those_that_were_kept() -> None:
    status = ROWS[1].status()
    assert [c.type for c in status.conditions] == ["Ready", "Reconciling", "Stalled", "Suspended"]
    assert {c.last_transition_time for c in status.conditions} == {SINCE}
    assert [(r.at, r.outcome, r.message) for r in status.results] == [
        (SINCE, "failed", "no \u00e9 there"), (SINCE, "applied", ""),
    ]  # fmt: skip
