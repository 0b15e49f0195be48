from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carrel.declare.quotas import Quotas
from carrel.ids import TenantId, parse_tenant_id
from carrel.metering.account import Account, Limits
from carrel.metering.standing import GROWN_BY, NAME, RECORD, Standing

ACME = parse_tenant_id("acme")
WALL = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUOTAS = Quotas(requests_per_minute=10, requests_per_hour=15, requests_per_second=100)
BOOT, OTHER = b"b" * 16, b"c" * 16


class Life:
    """One life of a gateway; the clocks go on by themselves."""

    def __init__(self, home: Path, *, now: float, wall: datetime, boot: bytes = BOOT) -> None:
        self.file, self.account = Standing(home, boot=boot), Account(Limits.of(QUOTAS))
        self.file.open(now=now, wall=wall)
        self.file.adopt(ACME, self.account)

    def admitted(self, now: float, wall: datetime, count: int) -> int:
        """How many of ``count`` are let through."""
        through = 0
        for _ in range(count):
            if self.account.admit(now, wall)[0] is None:
                through += 1
                self.file.counted(ACME, self.account, now=now, wall=wall)
        return through


def test_a_new_process_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    # Never closed, as what is killed is not.
    first = Life(tmp_path, now=1000.0, wall=WALL)
    assert first.admitted(1000.0, WALL, 4) == 4
    assert first.admitted(1030.0, WALL, 4) == 4
    second = Life(tmp_path, now=1031.0, wall=WALL)
    assert second.admitted(1031.0, WALL, 9) == 2
    third = Life(tmp_path, now=1062.0, wall=WALL)
    assert third.admitted(1062.0, WALL, 9) == 4, "those of the first seconds have gone from the minute"
    assert Life(tmp_path, now=1122.0, wall=WALL).admitted(1122.0, WALL, 9) == 1, "the hour is used up"
    assert Life(tmp_path, now=9999.0, wall=WALL).admitted(9999.0, WALL, 11) == 10


@pytest.mark.parametrize(("away", "through"), [(10, 0), (59, 0), (61, 5), (3700, 10), (-500, 0)])
def test_after_the_machine_was_away_the_wall_says_how_long(tmp_path: Path, away: int, through: int) -> None:
    first = Life(tmp_path, now=500_000.0, wall=WALL)
    assert first.admitted(500_000.0, WALL, 10) == 10
    later = WALL + timedelta(seconds=away)
    second = Life(tmp_path, now=5.0, wall=later, boot=OTHER)
    assert second.admitted(5.0, later, 12) == through
    third = Life(tmp_path, now=6.0, wall=later, boot=OTHER)
    assert third.admitted(6.0, later, 12) == 0


def test_warnings_are_remembered(tmp_path: Path) -> None:
    first = Life(tmp_path, now=1.0, wall=WALL)
    first.file.warned(ACME, "tokens_per_month", 77)
    first.file.warned(ACME, "no such quota", 88)
    assert Life(tmp_path, now=2.0, wall=WALL).account.warned == {"tokens_per_month": 77}


def test_there_is_room_for_more_tenants_than_at_first(tmp_path: Path) -> None:
    file = Standing(tmp_path, boot=BOOT)
    file.open(now=1.0, wall=WALL)
    for number in range(GROWN_BY + 3):
        account = Account(Limits.of(QUOTAS))
        account.admit(1.0, WALL)
        file.counted(TenantId(f"t{number}"), account, now=1.0, wall=WALL)
    file.close()
    again = Standing(tmp_path, boot=BOOT)
    again.open(now=2.0, wall=WALL)
    for number in (0, GROWN_BY - 1, GROWN_BY, GROWN_BY + 2):
        account = Account(Limits.of(QUOTAS))
        again.adopt(TenantId(f"t{number}"), account)
        assert account.minute.count(2.0) == 1
    again.close()


@pytest.mark.parametrize("damage", [b"", b"x", b"not ours at all" * 9, bytes(RECORD)])
def test_what_is_not_ours_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / NAME).write_bytes(damage)
    assert Life(tmp_path, now=1.0, wall=WALL).admitted(1.0, WALL, 12) == 10
    assert Life(tmp_path, now=2.0, wall=WALL).admitted(2.0, WALL, 12) == 0


def test_where_no_file_can_be_made_counts_are_in_memory(tmp_path: Path) -> None:
    life = Life(tmp_path / "missing", now=1.0, wall=WALL)
    assert life.admitted(1.0, WALL, 12) == 10
    life.file.warned(ACME, "disk_bytes", 5)
    life.file.close()


def test_a_record_of_long_ago_makes_way(tmp_path: Path) -> None:
    assert Life(tmp_path, now=1.0, wall=WALL).admitted(1.0, WALL, 3) == 3
    later = Life(tmp_path, now=2.0, wall=WALL + timedelta(days=63))
    assert later.account.minute.count(2.0) == 0
