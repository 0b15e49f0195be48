import math

from carrel.errors import CarrelError, Conflict, StorageFull
from carrel.ids import TenantId
from carrel.reconcile.attempts import MOST_SECONDS, Attempts
from tests.fakes.clock import FakeClock

ACME = TenantId("acme")
FULL: CarrelError = StorageFull("Full.")


def test_what_may_pass_waits_longer_each_time_up_to_a_ceiling() -> None:
    clock = FakeClock()
    attempts, waits = Attempts(clock, spread=lambda: 1.0), []
    for _ in range(12):
        trouble = attempts.failed(ACME, "r", "NoDirectory", FULL)
        assert trouble.again_at is not None
        waits.append(attempts.wait())
        assert not attempts.may(ACME, "r")
        clock.advance(waits[-1])
        assert attempts.may(ACME, "r")
        assert attempts.due() == {ACME}
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == MOST_SECONDS


def test_two_that_failed_together_do_not_return_together() -> None:
    early, late = (Attempts(FakeClock(), spread=lambda value=value: value) for value in (0.0, 1.0))  # type: ignore[misc]
    early.failed(ACME, "r", "x", FULL)
    late.failed(ACME, "r", "x", FULL)
    assert (early.wait(), late.wait()) == (0.5, 1.0)


def test_what_stays_wrong_waits_for_a_change() -> None:
    clock = FakeClock()
    attempts = Attempts(clock)
    assert attempts.failed(ACME, "r", "x", Conflict("No.")).again_at is None
    clock.advance(1e9)
    assert not attempts.may(ACME, "r")
    assert (attempts.wait(), attempts.due()) == (math.inf, set())
    assert attempts.may(ACME, "another")
    attempts.hurry()
    assert attempts.may(ACME, "r")
    attempts.succeeded(ACME)
    assert (attempts.trouble(ACME), len(attempts)) == (None, 0)


def test_a_change_begins_anew() -> None:
    attempts = Attempts(FakeClock(), spread=lambda: 1.0)
    for revision in ("r", "r", "s"):
        attempts.failed(ACME, revision, "x", FULL)
    assert attempts.wait() == 1.0
