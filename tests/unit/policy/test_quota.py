from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.policy.quota import (
    Decision,
    SlidingWindow,
    TokenBucket,
    day_reset,
    judge_bucket,
    judge_sessions,
    judge_total,
    judge_window,
    month_reset,
)

WALL = datetime(2026, 3, 31, 23, 59, 50, tzinfo=UTC)


def test_a_minute_slides() -> None:
    window = SlidingWindow(60.0)
    for second in range(3):
        assert judge_window(window, quota="m", hard=3, soft=None, now=100.0 + second, wall=WALL).refusal is None
        window.add(100.0 + second)
    refusal = judge_window(window, quota="m", hard=3, soft=None, now=103.0, wall=WALL).refusal
    assert refusal is not None
    assert 57 <= refusal.retry_after <= 58
    assert refusal.reset_at == WALL + timedelta(seconds=refusal.retry_after)
    assert judge_window(window, quota="m", hard=3, soft=None, now=103 + refusal.retry_after, wall=WALL).refusal is None


@given(st.lists(st.floats(min_value=0, max_value=7), max_size=200), st.integers(min_value=1, max_value=20))
def test_no_minute_holds_more_than_the_limit(gaps: list[float], limit: int) -> None:
    window, now, taken = SlidingWindow(60.0), 5.0, []
    for gap in gaps:
        now += gap
        if judge_window(window, quota="m", hard=limit, soft=None, now=now, wall=WALL).refusal is None:
            window.add(now)
            taken.append(now)
    for start in taken:
        assert sum(start <= at < start + 60 for at in taken) <= limit


@given(st.lists(st.floats(min_value=0, max_value=7), max_size=80), st.integers(min_value=1, max_value=10))
def test_waiting_as_told_is_enough(gaps: list[float], limit: int) -> None:
    window, now = SlidingWindow(60.0), 5.0
    for gap in gaps:
        now += gap
        refusal = judge_window(window, quota="m", hard=limit, soft=None, now=now, wall=WALL).refusal
        if refusal is not None:
            now += refusal.retry_after + 1e-6
            assert judge_window(window, quota="m", hard=limit, soft=None, now=now, wall=WALL).refusal is None
        window.add(now)


@pytest.mark.parametrize(("hard", "soft", "refused", "warned"), [
    (None, None, False, False), (0, None, True, False), (None, 0, False, True), (5, 0, False, True),
    (1, 1, False, False),
])  # fmt: skip
def test_limits_of_a_window(hard: int | None, soft: int | None, *, refused: bool, warned: bool) -> None:
    decision = judge_window(SlidingWindow(60.0), quota="m", hard=hard, soft=soft, now=1.0, wall=WALL)
    assert (decision.refusal is not None, decision.passed_soft) == (refused, warned)


def test_a_bucket_gives_its_limit_at_once_and_fills_at_its_pace() -> None:
    bucket = TokenBucket()

    def ask(now: float) -> bool:
        if judged(bucket, TokenBucket(), hard=4, soft=None, now=now).refusal is not None:
            return False
        bucket.take(now, 4)
        return True

    assert [ask(10.0) for _ in range(5)] == [True] * 4 + [False]
    assert judged(bucket, TokenBucket(), hard=4, soft=None, now=10.0).refusal
    assert [ask(10.25), ask(10.25)] == [True, False]
    assert [ask(99.0) for _ in range(5)] == [True] * 4 + [False]


def judged(bucket: TokenBucket, softer: TokenBucket, *, hard: int | None, soft: int | None, now: float) -> Decision:
    return judge_bucket(bucket, softer, quota="s", hard=hard, soft=soft, now=now, wall=WALL)


def test_a_bucket_of_none_and_a_soft_one() -> None:
    refusal = judged(TokenBucket(), TokenBucket(), hard=0, soft=None, now=1.0).refusal
    assert refusal is not None
    assert "opens again" not in refusal.message, "a quota of none does not"
    assert judged(TokenBucket(), TokenBucket(), hard=None, soft=None, now=1.0).refusal is None
    assert judged(TokenBucket(), TokenBucket(), hard=None, soft=0, now=1.0).passed_soft


@pytest.mark.parametrize("hard", [None, 5])
def test_a_soft_bucket_warns_for_as_long_as_it_is_passed(hard: int | None) -> None:
    bucket, softer = TokenBucket(), TokenBucket()

    def ask(now: float) -> bool:
        decision = judged(bucket, softer, hard=hard, soft=2, now=now)
        assert decision.refusal is None
        bucket.take(now, 5)
        softer.take(now, 2)
        return decision.passed_soft

    assert [ask(10.0) for _ in range(5)] == [False, False, True, True, True]
    assert [ask(11.0) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(("used", "reserved", "worst", "hard", "fits"), [
    (0, 0, 10, 10, True), (0, 0, 11, 10, False), (5, 5, 1, 10, False), (5, 4, 1, 10, True), (10, 0, 0, 10, True),
    (11, 0, 0, 10, False), (0, 0, 5, None, True), (0, 0, 1, 0, False), (12, 0, 11, 10, False),
])  # fmt: skip
def test_totals(used: int, reserved: int, worst: int, hard: int | None, *, fits: bool) -> None:
    for kind in (int, Decimal):
        decision = judge_total(
            quota="tokens_per_day", used=kind(used), reserved=kind(reserved), worst=kind(worst),
            hard=None if hard is None else kind(hard), soft=None, reset=day_reset, wall=WALL,
        )  # fmt: skip
        assert (decision.refusal is None) == fits
        if decision.refusal is not None:
            error = decision.refusal.error()
            assert error.retry_after == (10 if used + worst > (hard or 0) else 2)
            assert error.reset_at == datetime(2026, 4, 1, tzinfo=UTC)
            assert error.details["quota"] == "tokens_per_day"
            assert ("is 0: no call is let through" in error.message) == (hard == 0)
            assert ("holds no call that may take so much" in error.message) == (0 < (hard or 0) < worst)
            assert ("a lower max_tokens" in error.message) == (used < (hard or 0)), "there is room for none at all"


def test_what_only_calls_in_flight_keep_from_fitting_may_come_back_soon() -> None:
    held, used_up = (
        judge_total(quota="q", used=used, reserved=6, worst=5, hard=10, soft=None, reset=day_reset, wall=WALL).refusal
        for used in (5, 6)
    )
    assert held is not None
    assert used_up is not None
    assert (held.retry_after, used_up.retry_after) == (2, 10)
    assert held.reset_at == used_up.reset_at
    assert "Room comes free as these calls end" in held.message
    assert "It opens again at" in used_up.message


def test_no_session_is_let_through_by_a_quota_of_none() -> None:
    assert judge_sessions(0, 0, WALL).message.startswith("The quota concurrent_sessions is 0: no turn")
    assert "go on in one of these" in judge_sessions(1, 1, WALL).message


def test_a_soft_total_warns() -> None:
    for used, passed in ((9, False), (10, False), (11, True)):
        decision = judge_total(
            quota="q", used=used, reserved=3, worst=2, hard=20, soft=10, reset=day_reset, wall=WALL
        )  # fmt: skip
        assert (decision.refusal, decision.passed_soft) == (None, passed)


def test_windows_end_in_utc() -> None:
    assert day_reset(WALL) == month_reset(WALL) == datetime(2026, 4, 1, tzinfo=UTC)
