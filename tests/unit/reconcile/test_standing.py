from datetime import timedelta
from pathlib import Path

from carrel.plan.conditions import Facts, claims_of
from carrel.reconcile.record import Record
from carrel.reconcile.standing import RESULTS
from tests.fakes.clock import FakeClock

WELL, SUSPENDED = claims_of(Facts()), claims_of(Facts(suspended=True))


def test_a_transition_is_a_change_of_status_and_outlives_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    record, began = Record.open(tmp_path, clock), clock.now()
    record.standing.update("acme", WELL, "one")
    clock.advance(60)
    record.standing.update("acme", WELL, "two")
    assert {c.last_transition_time for c in record.standing.conditions("acme")} == {began}
    assert record.standing.conditions("acme")[0].observed_revision == "two"
    clock.advance(60)
    assert record.standing.update("acme", SUSPENDED, "two")
    record.flush()
    record.close()
    again = Record.open(tmp_path, clock)
    clock.advance(60)
    assert not again.standing.update("acme", SUSPENDED, "two")
    ready, reconciling, _, suspended = again.standing.conditions("acme")
    assert ready.last_transition_time == suspended.last_transition_time == began + timedelta(seconds=120)
    assert reconciling.last_transition_time == began
    assert again.standing.unwell() == ["acme"]
    again.close()


def test_the_last_results_are_kept_and_a_repeated_one_once(tmp_path: Path) -> None:
    clock = FakeClock()
    record = Record.open(tmp_path, clock)
    for _ in range(5):
        record.standing.ended("acme", "r", "failed", "full")
        clock.advance(1)
    assert len(record.standing.results("acme")) == 1
    for n in range(RESULTS + 5):
        record.standing.ended("acme", f"r{n}", "applied")
    assert len(record.standing.results("acme")) == RESULTS
    record.flush()
    record.close()
    again = Record.open(tmp_path, clock)
    assert again.standing.results("acme")[-1].revision == f"r{RESULTS + 4}"
    assert again.standing.claims("acme") == ()
    again.standing.forget("acme")
    again.flush()
    assert again.standing.results("acme") == ()
    again.close()


def test_tenants_are_counted_by_condition(tmp_path: Path) -> None:
    record = Record.open(tmp_path)
    record.standing.update("acme", WELL, "")
    record.standing.update("bravo", SUSPENDED, "")
    record.standing.update("_gateway", WELL, "")
    counts = record.standing.counts()
    assert (counts["Ready", "True"], counts["Ready", "False"], counts["Suspended", "True"]) == (1, 1, 1)
    record.close()
