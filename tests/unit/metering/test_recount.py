"""Sums held against the calls that they are of."""

import json
from datetime import timedelta
from decimal import Decimal

import apsw
import pytest

from carrel.errors import CarrelError
from carrel.metering import recount as recounts
from carrel.metering.ledger import apply
from carrel.metering.recount import Counting, Recount, recount
from tests.unit.metering.test_ledger import NOON, made

TIERED = json.dumps({"long_prompts": [{"over_tokens": 5}, {"over_tokens": 50}]})


def test_a_recount_finds_sums_that_the_calls_do_not_make(ledger: apsw.Connection) -> None:
    assert recount(ledger) == Recount(0, ())
    apply(ledger, [made(f"r{n}", NOON + timedelta(hours=n), session_id=f"s{n % 3}", rates=TIERED) for n in range(40)])
    assert recount(ledger) == Recount(40, ())
    for spoilt, mended in (
        ("UPDATE rollups SET calls = calls + 1 WHERE date='2026-03-01'", "UPDATE rollups SET calls = calls - 1"),
        ("UPDATE session_rollups SET cost_usd='9' WHERE date='2026-03-01'", None),
    ):
        ledger.execute(spoilt)
        assert recount(ledger) == Recount(40, (("2026-03-01", "m"),))
        if mended:
            ledger.execute(f"{mended} WHERE date='2026-03-01'")
    ledger.execute("DELETE FROM session_rollups")
    assert {day for day, _ in recount(ledger).wrong} == {"2026-03-01", "2026-03-02", "2026-03-03"}


def test_a_recount_finds_sums_of_which_there_are_no_calls(ledger: apsw.Connection) -> None:
    apply(ledger, [made("r", NOON)])
    names = ", ".join(name for (_, name, *_) in ledger.execute("PRAGMA table_info(rollups)"))
    as_other = names.replace("model", "'other'")
    ledger.execute(f"INSERT INTO rollups({names}) SELECT {as_other} FROM rollups")  # noqa: S608 - names of columns
    assert recount(ledger) == Recount(1, (("2026-03-01", "other"),))


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_day_is_counted_in_parts_whatever_begins_at_once(
    ledger: apsw.Connection, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(recounts, "PART_ROWS", rows)
    tiny, great = Decimal("0.000000000000000000000000000001"), Decimal(10**15)
    apply(ledger, [
        made(f"r{n}", NOON + timedelta(seconds=n // 5), session_id=f"s{n % 4}", cost=tiny if n % 3 else great)
        for n in range(23)
    ])  # fmt: skip
    counting = Counting()
    assert recount(ledger, counting) == Recount(23, ())
    assert (counting.done, counting.total) == (23, 23)
    ledger.execute("UPDATE session_rollups SET cost_usd = cost_usd || '1' WHERE session_id = 's1'")
    assert recount(ledger) == Recount(23, (("2026-03-01", "m"),))
    ledger.execute("DELETE FROM session_rollups")
    assert recount(ledger) == Recount(23, (("2026-03-01", "m"),))


def test_how_far_it_is_grows_with_the_parts(ledger: apsw.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recounts, "PART_ROWS", 10)
    monkeypatch.setattr(recounts, "_LOOK_EVERY", 10)
    apply(ledger, [made(f"r{n}", NOON + timedelta(seconds=n)) for n in range(40)])
    counting, seen = Counting(), set[tuple[int, int]]()

    def stopped() -> bool:
        seen.add((counting.done, counting.total))
        return counting.done >= 30

    with pytest.raises(CarrelError):
        recount(ledger, counting, stopped)
    assert {(10, 40), (20, 40), (30, 40)} <= seen


def test_when_it_may_be_done_is_by_the_pace_since_it_began() -> None:
    now = [0.0]
    counting = Counting(now=lambda: now[0])
    now[0] = 60.0
    counting.begin(1000)
    assert counting.eta is None
    now[0] = 70.0
    counting.done = 100
    assert counting.eta == pytest.approx(90)
