from decimal import Decimal
from pathlib import Path

from carrel.declare.rate_card import LongPrompt, Rates, TokenCounts
from carrel.ids import RequestId, parse_tenant_id
from carrel.metering.protocol import Call
from carrel.metering.recovery import read_journal
from carrel.metering.rows import Tariff, opened_line
from carrel.metering.segment import Segment
from carrel.policy.estimate import TEMPLATE_TOKENS
from carrel.policy.pricing import price_of
from tests.fakes.tenants import make_snapshot
from tests.unit.metering.test_rows import settled

ACME = parse_tenant_id("acme")
TARIFF = Tariff(7, price_of(make_snapshot().rate_card.models["demo"], Decimal("1.25")), "c" * 64)


def opened(name: str, tariff: int = 7, member: str | None = None) -> bytes:
    call = Call(RequestId(f"req-{name}"), "demo", TEMPLATE_TOKENS + 40, 50)
    return opened_line(name, ACME, 5, call, tariff, member=member)


def write(path: Path, *lines: bytes) -> None:
    segment = Segment.create(path, 8192)
    for line in lines:
        segment.append(line)
    segment.close()


def test_rows_and_interrupted_calls(tmp_path: Path) -> None:
    write(
        tmp_path / "0000000001.journal", TARIFF.line(), opened("a"), opened("b"), opened("c"), settled(id="a")
    )  # fmt: skip
    write(tmp_path / "0000000002.journal", TARIFF.line(), opened("b"), settled(id="b"), opened("a"))
    write(tmp_path / "0000000003.journal", TARIFF.line(), opened("a"), settled(id="a"))
    found = read_journal(tmp_path, now=99)
    assert [path.name[9:10] for path in found.files] == ["1", "2", "3"]
    rows = {r.id: r for r in found.rows}
    assert len(found.rows) == len(rows) == 3
    assert found.interrupted == 1
    assert rows["a"].cost == Decimal("0.00003")
    assert rows["a"].rates == TARIFF.price.snapshot
    assert (rows["c"].outcome, rows["c"].counts.input, rows["c"].counts.output) == ("interrupted", 10, 0)
    assert (rows["c"].estimated, rows["c"].started, rows["c"].ended) == (True, 5, 99)


def test_files_are_read_in_the_order_that_they_were_begun_in(tmp_path: Path) -> None:
    for name, number, lines in (
        ("0000000001", 5, (opened("a"), settled(id="a"))), ("0000000002", 4, (opened("a"), opened("b"))),
    ):  # fmt: skip
        segment = Segment.create(tmp_path / f"{name}.journal", 8192)
        segment.begin(number)
        for line in (TARIFF.line(), *lines):
            segment.append(line)
        segment.close()
    found = read_journal(tmp_path, now=9)
    assert [path.name[9:10] for path in found.files] == ["2", "1"]
    assert {r.id: r.outcome for r in found.rows} == {"a": "ok", "b": "interrupted"}


def test_lines_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    write(
        tmp_path / "0000000001.journal", TARIFF.line(), b"X\twhat", opened("a", tariff=8), b"\xff\xfe", b"R\tshort",
        settled(id="never-opened"), opened("b"), settled(id="b", outcome="fine"),
    )  # fmt: skip
    (tmp_path / "0000000002.journal").write_bytes(b"not one of ours")
    found = read_journal(tmp_path, now=1)
    assert [(r.id, r.outcome) for r in found.rows] == [("b", "interrupted")]


def test_an_empty_directory(tmp_path: Path) -> None:
    assert read_journal(tmp_path, now=1).rows == []


def test_whose_a_call_was_and_how_its_prices_were_outlive_a_crash(tmp_path: Path) -> None:
    rates = Rates(
        input=Decimal(3), output=Decimal(15), cache_write_1h=Decimal(6),
        long_prompts=(LongPrompt(over_tokens=10, input=Decimal(6), output=Decimal(30), cache_write_1h=Decimal(12)),),
    )  # fmt: skip
    tariff = Tariff(7, price_of(rates, Decimal(1)), "c" * 64)
    short, long = TokenCounts(1, 0, 5, 1, 0, 4), TokenCounts(1, 0, 50, 1, 0, 40)
    write(
        tmp_path / "0000000001.journal", tariff.line(), opened("a", member="ada"), opened("b"),
        opened("c", member="bob"),
        settled(id="a", counts=short), settled(id="b", counts=long),
    )  # fmt: skip
    rows = {r.id: r for r in read_journal(tmp_path, now=99).rows}
    assert {name: r.member for name, r in rows.items()} == {"a": "ada", "b": "", "c": "bob"}
    assert (rows["a"].cost, rows["a"].counts) == (Decimal("0.000045"), short)
    assert rows["b"].cost == Decimal("0.000576")
    assert rows["a"].rates == tariff.price.snapshot


def test_the_plan_is_in_the_journal_and_an_older_line_names_none(tmp_path: Path) -> None:
    tariff = Tariff(7, TARIFF.price, TARIFF.card_hash, "pro", "h" * 64)
    write(tmp_path / "0000000001.journal", tariff.line(), opened("a"), settled(id="a"))
    older = f"P\t7\t{TARIFF.card_hash}\t{TARIFF.price.snapshot}".encode()
    write(tmp_path / "0000000002.journal", older, opened("b"), settled(id="b"))
    rows = {one.id: one for one in read_journal(tmp_path, now=99).rows}
    assert (rows["a"].plan, rows["a"].plan_hash) == ("pro", "h" * 64)
    assert (rows["b"].plan, rows["b"].plan_hash) == ("", "")
