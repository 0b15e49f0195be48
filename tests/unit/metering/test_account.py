from datetime import UTC, date, datetime
from decimal import Decimal

from carrel.declare.quotas import CountLimit, Quotas
from carrel.metering.account import Account, Hold, Limits, Window
from carrel.metering.rows import micros
from carrel.policy.quota import Refusal

WALL = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = micros(WALL)


def account(**quotas: object) -> Account:
    made = Account(Limits.of(Quotas(**quotas)))  # type: ignore[arg-type] # fields by name
    made.learn(WALL.date(), Window(), Window())
    return made


def test_what_is_held_comes_back_and_what_is_used_stays() -> None:
    a = account(tokens_per_day=100)
    first, _ = a.hold(60, Decimal(1), NOW)
    assert isinstance(first, Hold)
    refused, _ = a.hold(41, Decimal(1), NOW)
    assert isinstance(refused, Refusal)
    assert not a.idle(1.0)
    a.use(first, 59, Decimal("0.5"))
    second, _ = a.hold(41, Decimal(1), NOW)
    assert isinstance(second, Hold)
    a.release(second)
    day, month = a.windows(NOW)
    assert (day.tokens, day.held_tokens, day.cost, day.held_cost) == (59, 0, Decimal("0.5"), Decimal(0))
    assert month == day
    assert a.idle(1.0)


def test_a_refused_request_counts_in_no_window() -> None:
    a = account(requests_per_minute=1, requests_per_hour=5)
    assert a.admit(1.0, WALL) == (None, [])
    for _ in range(10):
        assert a.admit(1.0, WALL)[0] is not None
    assert {state.name: state.used for state in a.status(1.0, NOW)} == {
        "requests_per_minute": 1,
        "requests_per_hour": 1,
    }
    assert not a.idle(2.0)
    assert a.idle(9999.0)


def test_requests_a_second() -> None:
    a = account(requests_per_second=2)
    assert [a.admit(1.0, WALL)[0] is None for _ in range(3)] == [True, True, False]
    assert a.admit(1.6, WALL)[0] is None


def test_requests_a_second_warn_below_their_hard_limit() -> None:
    a = account(requests_per_second=CountLimit(hard=4, soft=2))
    assert [a.admit(1.0, WALL)[1] for _ in range(4)] == [[], [], ["requests_per_second"], ["requests_per_second"]]
    assert a.over == ("requests_per_second",)
    assert a.admit(1.0, WALL)[0] is not None


def test_quotas_that_change_hold_at_once() -> None:
    a = account(tokens_per_day=100)
    a.follow(Quotas(tokens_per_day=10))
    refused, _ = a.hold(11, Decimal(0), NOW)
    assert isinstance(refused, Refusal)
    a.follow(Quotas())
    assert isinstance(a.hold(10**12, Decimal(10**6), NOW)[0], Hold)


def test_old_windows_are_forgotten_but_not_those_that_are_held() -> None:
    a = account()
    held, _ = a.hold(5, Decimal(0), NOW)
    assert isinstance(held, Hold)
    for day in range(2, 30):
        a.learn(date(2026, 3, day), Window(), Window())
    assert date(2026, 3, 1) in a.days
    assert len(a.days) <= 5
    a.use(held, 5, Decimal(0))
    assert a.windows(NOW)[0].tokens == 5


def test_a_soft_limit_is_passed_by_what_is_used_and_told_once_in_a_window() -> None:
    a = account(tokens_per_day=CountLimit(soft=1))
    held, soft = a.hold(5, Decimal(0), NOW)
    assert isinstance(held, Hold)
    assert (soft, a.over_totals) == ([], ())
    a.use(held, 5, Decimal(0))
    assert a.over_totals == ("tokens_per_day",)
    assert a.hold(5, Decimal(0), NOW)[1] == ["tokens_per_day"]
    assert a.used_of("tokens_per_day", 1.0, NOW) == (5, 1)
    assert [a.first_warning("tokens_per_day", at, 100) for at in (10, 99, 100)] == [True, False, True]
