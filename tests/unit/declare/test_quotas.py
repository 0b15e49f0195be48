from decimal import Decimal

from carrel.declare.quotas import CountLimit, MoneyLimit, Quotas


def test_a_bare_number_is_a_hard_limit() -> None:
    quotas = Quotas(tokens_per_day=5, cost_per_day_usd=Decimal("1.50"))
    assert quotas.count("tokens_per_day") == CountLimit(hard=5)
    assert quotas.money("cost_per_day_usd") == MoneyLimit(hard=Decimal("1.50"))


def test_nothing_is_no_limit() -> None:
    assert Quotas().count("requests_per_minute") == CountLimit()
    assert Quotas().money("cost_per_month_usd") == MoneyLimit()


def test_a_pair_stays_a_pair() -> None:
    quotas = Quotas(requests_per_minute=CountLimit(hard=5, soft=3), cost_per_day_usd=MoneyLimit(soft=Decimal(1)))
    assert quotas.count("requests_per_minute").soft == 3
    assert quotas.money("cost_per_day_usd").hard is None
