"""Which backups stay, and that removing takes nothing that any needs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carrel.backup import retention
from carrel.backup.catalogue import BackupInfo, Collecting
from carrel.backup.progress import Progress
from carrel.backup.reader import verify
from carrel.backup.repository import Repository
from carrel.backup.retention import Collected, Keep, collect, kept
from carrel.backup.run import back_up
from carrel.objects.directory import DirectoryStore
from carrel.objects.protocol import ObjectDamaged
from carrel.tenancy.handle import Tenant
from tests.fakes.backups import KEYS, full_tenant, means, subject
from tests.fakes.clock import FakeClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def made_at(*moments: datetime) -> list[BackupInfo]:
    return [
        BackupInfo(id=f"{at:%Y%m%dT%H%M%SZ}-{number:08x}", at=at, host="h", files=0, bytes=0, sent=0)
        for number, at in enumerate(moments)
    ]


def test_the_newest_of_each_period_stays() -> None:
    hourly = made_at(*(NOON - timedelta(hours=hours) for hours in range(24 * 400)))
    stays = kept(hourly[::-1], Keep(last=3, daily=7, weekly=4, monthly=12))
    found = sorted(one.at for one in hourly if one.id in stays)
    assert found[-3:] == [NOON - timedelta(hours=2), NOON - timedelta(hours=1), NOON]
    days = {at.date() for at in found}
    assert {NOON.date() - timedelta(days=number) for number in range(7)} <= days
    assert {(at.year, at.month) for at in found} == {
        ((NOON.year * 12 + NOON.month - 1 - back) // 12, (NOON.month - 1 - back) % 12 + 1) for back in range(12)
    }  # fmt: skip
    assert len(found) <= 3 + 7 + 4 + 12
    assert kept(hourly[::-1], Keep(0, 0, 0, 0)) == {hourly[0].id}
    assert kept([], Keep()) == set()


def test_the_newest_in_which_nothing_was_damaged_stays() -> None:
    daily = made_at(*(NOON - timedelta(days=days) for days in range(40)))
    damaged = [one.model_copy(update={"damaged": ("usage/ledger.sqlite",)}) for one in daily[:30]] + daily[30:]
    assert kept(damaged[::-1], Keep(2, 0, 0, 0)) == {daily[0].id, daily[1].id, daily[30].id}
    assert kept(daily[::-1], Keep(2, 0, 0, 0)) == {daily[0].id, daily[1].id}


def test_the_newest_is_the_last_one_made_whatever_its_clock_said() -> None:
    ahead = timedelta(days=365)
    made = made_at(NOON + ahead, NOON + ahead + timedelta(hours=1), NOON)
    assert kept(made, Keep(1, 0, 0, 0)) == {made[2].id}
    assert kept(made, Keep(0, 2, 0, 0)) == {made[1].id, made[2].id}


def test_one_that_lost_content_takes_no_others_place() -> None:
    daily = made_at(*(NOON - timedelta(days=days) for days in range(6)))
    lost = [one.model_copy(update={"lost": ("sandbox/a",)}) for one in daily[:2]] + daily[2:]
    assert kept(lost[::-1], Keep(1, 2, 0, 0)) == {one.id for one in daily[:4]}
    assert kept(daily[::-1], Keep(1, 2, 0, 0)) == {one.id for one in daily[:2]}


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    made = full_tenant(tmp_path)
    yield made
    made.root.close()


def three(tenant: Tenant, place: Path, clock: FakeClock) -> Repository:
    for number in range(3):
        (place / "tenants/acme/sandbox/data.bin").write_bytes(bytes([number]) * (1 << 20) + bytes([number]) * 200_000)
        back_up(subject(tenant), means(place, clock=clock), Progress())
        clock.jump(86_400)
    return Repository.at(DirectoryStore(place / "store"), tenant.id, KEYS)


def test_what_only_old_ones_need_goes(tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    repository = three(tenant, tmp_path, clock)
    before = {name for name, _ in repository.pieces()}
    only = Keep(last=1, daily=0, weekly=0, monthly=0)
    # What is young stays: a backup that broke off goes on from it.
    clock.jump(-400 * 86_400)
    assert collect(repository, only, means(tmp_path, clock=clock)).pieces == 0
    assert {name for name, _ in repository.pieces()} == before
    monkeypatch.setattr(retention, "GRACE", timedelta(days=-4000))
    done = collect(repository, only, means(tmp_path, clock=clock), always=True)
    assert done.pieces > 2
    assert done.bytes > 0
    head, _ = repository.head()
    assert (len(head.backups), head.collecting) == (1, None)
    assert verify(repository, head.backups[0].id, Progress()) == []
    assert [one.key.rpartition("/")[2] for one in repository.manifests()] == [head.backups[0].id]
    assert collect(repository, only, means(tmp_path, clock=clock)) == Collected()


def test_nothing_is_removed_while_it_is_not_known_what_one_needs(tenant: Tenant, tmp_path: Path) -> None:
    clock = FakeClock(datetime.now(UTC) + timedelta(days=3))
    repository = three(tenant, tmp_path, clock)
    head, _ = repository.head()
    (tmp_path / f"store/acme/manifests/{head.backups[1].id}").write_bytes(b"x")
    before = {name for name, _ in repository.pieces()}
    with pytest.raises(ObjectDamaged, match=head.backups[1].id):
        collect(repository, Keep(2, 0, 0, 0), means(tmp_path, clock=clock), always=True)
    assert {name for name, _ in repository.pieces()} == before
    assert repository.head()[0].collecting is None
    # It leaves the list as any other does, and then all goes that nobody needs.
    assert collect(repository, Keep(1, 0, 0, 0), means(tmp_path, clock=clock)).pieces > 0


def test_one_that_is_being_made_loses_nothing(tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is removed at the worst moment: what it found there is not in any list, and it is not in one yet."""
    clock = FakeClock()
    repository = three(tenant, tmp_path, clock)
    monkeypatch.setattr(retention, "GRACE", timedelta(days=-4000))
    work = means(tmp_path, clock=clock, store=Worst(tmp_path / "store"))
    worst = work.store
    assert isinstance(worst, Worst)
    worst.then = lambda: collect(repository, Keep(1, 0, 0, 0), means(tmp_path, clock=clock), always=True)
    info = back_up(subject(tenant), work, Progress())
    assert worst.done == 1
    assert verify(repository, info.id, Progress()) == []


def test_past_its_time_nothing_more_is_removed(tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    repository = three(tenant, tmp_path, clock)
    monkeypatch.setattr(retention, "GRACE", timedelta(days=-4000))
    monkeypatch.setattr(retention, "MARGIN_SECONDS", retention.LEASE.total_seconds() + 1)
    before = {name for name, _ in repository.pieces()}
    assert collect(repository, Keep(1, 0, 0, 0), means(tmp_path, clock=clock)).pieces == 0
    assert {name for name, _ in repository.pieces()} == before
    assert repository.head()[0].collecting is None


def test_who_took_over_is_not_ended_by_who_was_late(tenant: Tenant, tmp_path: Path) -> None:
    clock = FakeClock()
    repository = three(tenant, tmp_path, clock)
    other = Collecting(by="other", until=clock.now() + timedelta(days=1))
    head, tag = repository.head()
    repository.commit(head.model_copy(update={"collecting": other}), tag)
    retention._ended(repository, Collecting(by="late", until=clock.now()))
    assert repository.head()[0].collecting == other


class Worst(DirectoryStore):
    """Calls ``then`` when the first manifest is to be written."""

    done = 0

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.then: object = None

    def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
        if "/manifests/" in key and not self.done:
            self.done += 1
            self.then()  # type: ignore[operator] # see above
        return super().put(key, data, replaces=replaces, absent=absent)
