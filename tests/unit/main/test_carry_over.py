"""What never goes back in time with a restore."""

from pathlib import Path

from carrel.connections.shelf import PLACE
from carrel.ids import TenantId
from carrel.main.carry_over import FILES, carry_over
from tests.unit.metering.test_ledger import made
from tests.unit.metering.test_union import ledger_of, rows_in

ACME = TenantId("acme")


def put(top: Path, text: str, *names: str) -> None:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)


def test_the_bill_and_who_may_do_what_go_on_from_what_is_there(tmp_path: Path) -> None:
    live, fresh = tmp_path / "live/tenants/acme", tmp_path / "fresh/tenants/acme"
    ledger_of(tmp_path / "live", made("a"), made("since"))
    ledger_of(tmp_path / "fresh", made("a"))
    put(live, "now", *FILES, "sessions/s_1.jsonl")
    put(fresh, "then", *FILES, "sessions/s_1.jsonl")
    carry_over(live, fresh, ACME)
    assert [entry.id for entry in rows_in(tmp_path / "fresh")] == ["a", "since"]
    assert {(fresh / name).read_text() for name in FILES} == {"now"}
    assert (fresh / "sessions/s_1.jsonl").read_text() == "then"


def test_on_an_empty_machine_all_of_it_comes_from_the_backup(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh/tenants/acme"
    ledger_of(tmp_path / "fresh", made("a"))
    put(fresh, "then", *FILES)
    carry_over(tmp_path / "none", fresh, ACME)
    (tmp_path / "bare").mkdir()
    carry_over(tmp_path / "bare", fresh, ACME)
    assert [entry.id for entry in rows_in(tmp_path / "fresh")] == ["a"]
    assert {(fresh / name).read_text() for name in FILES} == {"then"}


def test_what_another_tenant_was_charged_is_not_charged_again(tmp_path: Path) -> None:
    live, fresh = tmp_path / "live/tenants/acme", tmp_path / "fresh/tenants/acme"
    ledger_of(tmp_path / "live", made("own"))
    ledger_of(tmp_path / "fresh", made("others"))
    carry_over(live, fresh, ACME, own=False)
    assert [entry.id for entry in rows_in(tmp_path / "fresh")] == ["own"]
    carry_over(tmp_path / "none", fresh, ACME, own=False)
    assert rows_in(tmp_path / "fresh") == []


def test_connections_go_on_from_what_is_there_and_those_that_were_removed_stay_so(tmp_path: Path) -> None:
    live, fresh = tmp_path / "live/tenants/acme", tmp_path / "fresh/tenants/acme"
    put(live, "renewed since", f"{PLACE}/c1.sealed")
    put(fresh, "then", f"{PLACE}/c1.sealed", f"{PLACE}/c2.sealed")
    carry_over(live, fresh, ACME)
    assert {file.name: file.read_text() for file in (fresh / PLACE).iterdir()} == {"c1.sealed": "renewed since"}
    put(tmp_path / "other/tenants/acme", "then", f"{PLACE}/c3.sealed")
    (tmp_path / "none/tenants/acme").mkdir(parents=True)
    carry_over(tmp_path / "none/tenants/acme", tmp_path / "other/tenants/acme", ACME)
    assert [file.name for file in (tmp_path / "other/tenants/acme" / PLACE).iterdir()] == ["c3.sealed"]


def test_ledgers_that_were_damaged_go_on_with_their_tenant_and_no_other(tmp_path: Path) -> None:
    live, fresh = tmp_path / "live/tenants/acme", tmp_path / "fresh/tenants/acme"
    ledger_of(tmp_path / "live", made("a"))
    ledger = ledger_of(tmp_path / "fresh", made("a"))
    ledger.write_bytes(b"no database" * 1000)
    put(live, "of before", "usage/damaged/ledger-0")
    put(fresh, "of before that", "usage/damaged/ledger-1")
    [name] = carry_over(live, fresh, ACME)
    assert (fresh / name).read_bytes() == b"no database" * 1000
    assert [entry.id for entry in rows_in(tmp_path / "fresh")] == ["a"]
    assert {file.name: file.read_bytes()[:14] for file in (fresh / "usage/damaged").iterdir()} == {
        "ledger-0": b"of before", "ledger-1": b"of before that", name.rpartition("/")[2]: b"no databaseno ",
    }  # fmt: skip
    other = tmp_path / "other/tenants/acme"
    put(other, "another tenant's", "usage/damaged/ledger-2")
    carry_over(live, other, ACME, own=False)
    assert [file.name for file in (other / "usage/damaged").iterdir()] == ["ledger-0"]
