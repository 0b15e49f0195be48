"""Rows that wait for a ledger in a file, on the disk and torn."""

from pathlib import Path

import pytest

from carrel.errors import StorageFailed, StorageFull
from carrel.ids import TenantId
from carrel.metering.aside import Aside
from tests.unit.metering.test_ledger import ACME, made

OTHER = TenantId("other")


def test_rows_are_there_again_each_once_and_go_with_their_file(tmp_path: Path) -> None:
    aside = Aside(tmp_path)
    assert aside.read() == {}
    aside.keep(ACME, [made("a"), made("b", member="ann", plan="pro", plan_hash="h")])
    aside.keep(OTHER, [made("c")])
    aside.keep(ACME, [made("a"), made("d")])
    found = Aside(tmp_path).read()
    assert {tenant: [row[0] for row in rows] for tenant, rows in found.items()} == {
        ACME: ["a", "b", "d"], OTHER: ["c"]
    }  # fmt: skip
    assert found[ACME][1] == made("b", member="ann", plan="pro", plan_hash="h")
    assert aside.path(ACME).parent.stat().st_mode & 0o777 == 0o700
    aside.drop(ACME)
    aside.drop(ACME)
    assert set(aside.read()) == {OTHER}


def test_a_torn_line_takes_no_other_with_it(tmp_path: Path) -> None:
    aside = Aside(tmp_path)
    aside.keep(ACME, [made("a"), made("torn")])
    whole = aside.path(ACME).read_bytes()
    aside.path(ACME).write_bytes(whole[:-20])
    aside.keep(ACME, [made("b")])
    assert [row[0] for row in aside.read()[ACME]] == ["a", "b"]


def test_a_file_of_no_tenant_is_left_alone(tmp_path: Path) -> None:
    aside = Aside(tmp_path)
    aside.keep(ACME, [made("a")])
    aside.path(ACME).rename(aside.path(ACME).with_name("No Tenant.jsonl"))
    assert aside.read() == {}
    assert len(list(aside.path(ACME).parent.iterdir())) == 1


def test_a_disk_that_takes_nothing_is_said_so(tmp_path: Path) -> None:
    aside = Aside(tmp_path)
    aside.path(ACME).parent.mkdir(parents=True)
    aside.path(ACME).symlink_to("/dev/full")
    with pytest.raises(StorageFull):
        aside.keep(ACME, [made("a")])
    (tmp_path / "orphans.jsonl").mkdir()
    with pytest.raises(StorageFailed):
        aside.orphan(ACME, [made("a")])
