from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from carrel.declare.rate_card import TokenCounts
from carrel.ids import RequestId, SessionId, parse_tenant_id
from carrel.metering.protocol import Call
from carrel.metering.rows import (
    SETTLED_MAX,
    Row,
    clean_counts,
    clean_provider_id,
    micros,
    moment,
    opened_line,
    read_opened,
    read_settled,
    settled_line,
)

ACME = parse_tenant_id("acme")
COUNTS = TokenCounts(1, 2, 3, 4, 5)


def row(**more: object) -> Row:
    fields: dict[str, object] = {
        "id": "f" * 28, "tenant": ACME, "started": 1, "ended": 2, "request_id": "r", "provider_request_id": "p",
        "session_id": "", "agent": "", "model": "m", "counts": COUNTS, "tool_calls": 6, "cost": Decimal(1),
        "rates": "{}", "card_hash": "c", "outcome": "ok", "byo": False, "estimated": True,
    }  # fmt: skip
    return Row(**{**fields, **more})  # type: ignore[arg-type] # fields by name


def settled(**more: object) -> bytes:
    return settled_line(row(**more).values)


def test_values_make_the_row_again() -> None:
    one = row(
        counts=TokenCounts(1, 2, 3, 4, 5, 3), cost=Decimal("0.10"), byo=True, estimated=False, member="ada", plan="pro",
        plan_hash="p", session_id="s", agent="main",
    )  # fmt: skip
    assert Row.of(ACME, one.values) == one
    assert {type(value) for value in one.values} == {str, int}


def test_lines_read_back_as_they_were_written() -> None:
    call = Call(RequestId("req_1"), "m/x:y", 10, 20, SessionId("s"), "main", byo=True)
    opened = read_opened(opened_line("id", ACME, 77, call, 3).decode().split("\t"))
    assert (opened.id, opened.tenant, opened.started, opened.request_id) == ("id", "acme", 77, "req_1")
    assert (opened.session_id, opened.agent, opened.model, opened.tariff) == ("s", "main", "m/x:y", 3)
    assert (opened.byo, opened.max_input, opened.max_output) == (True, 10, 20)
    end = read_settled(settled().decode().split("\t"))
    assert (end.outcome, end.provider_request_id, end.counts) == ("ok", "p", COUNTS)
    assert (end.tool_calls, end.estimated, end.ended) == (6, True, 2)


def test_no_settled_line_is_longer_than_its_claim() -> None:
    huge = 1 << 80
    most = clean_counts(TokenCounts(huge, huge, huge, huge, huge, huge))
    longest = settled(
        counts=most, outcome="interrupted", provider_request_id=clean_provider_id("p" * 999), tool_calls=10**6,
        started=10**17, ended=10**17,
    )  # fmt: skip
    assert len(longest) + len(b"\tpriority") <= SETTLED_MAX


def test_lines_of_an_older_version_are_read() -> None:
    call = Call(RequestId("req_1"), "m", 10, 20)
    new = opened_line("id", ACME, 77, call, 3, member="ada").decode().split("\t")
    assert (read_opened(new).member, read_opened(new[:-1]).member) == ("ada", "")
    fields = settled(counts=TokenCounts(1, 2, 3, 4, 5, 2)).decode().split("\t")
    assert read_settled(fields).counts.cache_write_1h == 2
    assert read_settled([*fields[:9], *fields[10:]]).counts == COUNTS


def test_the_tier_that_a_call_was_served_at_is_in_its_line() -> None:
    line = settled_line(row().values, "priority")
    assert read_settled(line.decode().split("\t")).counts == replace(COUNTS, served="priority")
    assert read_settled(settled().decode().split("\t")).counts.served is None


@pytest.mark.parametrize(
    "line", ["R\ta", "S\ta\tok\tp\t1\t2\tx\t4\t5\t6\t1\t2", "S", "R" + "\t1" * 13, "S\ta\tok\tp" + "\t1" * 10]
)
def test_a_line_that_makes_no_sense_is_an_error(line: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        (read_opened if line[0] == "R" else read_settled)(line.split("\t"))


@pytest.mark.parametrize(
    ("said", "kept"), [(None, ""), ("", ""), ("req-1", "req-1"), ("a\tb\nc d", "abcd"), ("x" * 200, "x" * 128)]
)
def test_a_vendors_id_is_cleaned(said: str | None, kept: str) -> None:
    assert clean_provider_id(said) == kept


def test_counts_are_kept_within_what_a_ledger_holds() -> None:
    assert clean_counts(COUNTS) is COUNTS
    assert clean_counts(TokenCounts(input=-1, output=1 << 70)) == TokenCounts(input=0, output=(1 << 53) - 1)


def test_times() -> None:
    at = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert moment(micros(at)) == at
    assert row(started=micros(at)).day == at.date()
