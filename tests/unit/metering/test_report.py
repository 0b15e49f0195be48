from datetime import date
from decimal import Decimal

from carrel.declare.rate_card import TokenCounts
from carrel.ids import parse_tenant_id
from carrel.metering.report import COLUMNS, rows_of, to_csv, totals_of
from carrel.metering.rollups import Sums

ACME = parse_tenant_id("acme")
DAY, NEXT = date(2026, 3, 1), date(2026, 3, 2)


def test_rows_are_in_order_with_columns_that_do_not_overlap() -> None:
    rows = rows_of(ACME, {
        (NEXT, "a"): Sums(1, TokenCounts(1), 0, Decimal(1)),
        (DAY, "b"): Sums(2, TokenCounts(100, 20, 3, 40, 5), 6, Decimal("0.10")),
        (DAY, "a"): Sums(),
    })  # fmt: skip
    assert [(r.date, r.model) for r in rows] == [(DAY, "a"), (DAY, "b"), (NEXT, "a")]
    b = rows[1]
    assert (b.tokens_in, b.tokens_cached, b.tokens_out, b.reasoning_tokens, b.tool_calls) == (103, 20, 40, 5, 6)
    total = totals_of(rows)
    assert (total.tokens, total.cost_usd) == (169, Decimal("1.1"))


def test_the_csv_is_the_contract() -> None:
    assert ",".join(COLUMNS) == (
        "date,tenant,model,tokens_in,tokens_out,tokens_cached,reasoning_tokens,tool_calls,cost_usd"
    )
    rows = rows_of(ACME, {(DAY, "m"): Sums(1, TokenCounts(1, 2, 3, 4, 5), 6, Decimal("1E-7"))})
    assert to_csv(rows).splitlines()[1] == "2026-03-01,acme,m,4,4,2,5,6,0.0000001"
    assert to_csv([]) == ",".join(COLUMNS) + "\n"
