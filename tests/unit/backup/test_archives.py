"""Archives of a gateway that runs, to and from servers that are not ours, and directories."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from carrel.backup import staging
from carrel.backup.archives import Archives, Sent
from carrel.backup.metrics import BackupMetrics
from carrel.backup.service import Backups
from carrel.backup.target import Reach
from carrel.clock import SystemClock
from carrel.declare.backup import BackupConfig
from carrel.declare.base import SecretRef
from carrel.errors import CarrelError, Conflict, InvalidRequest, NotFound, StorageFull
from carrel.ids import TenantId
from carrel.objects.location import parse_location
from carrel.objects.pace import Cancelled
from carrel.objects.protocol import ObjectChanged, ObjectMissing, StoreUnavailable
from carrel.objects.retry import Patience
from carrel.objects.s3 import S3Store
from carrel.secrets import SecretStore
from carrel.tenancy.handle import Directory, Tenant
from tests.fakes.backups import KEYS, full_tenant, tree
from tests.fakes.patience import eventually
from tests.fakes.s3_servers import (
    ACCESS,
    BUCKET,
    SECRET,
    Exchange,
    FaultyProxy,
    answer_lost,
    cut_after,
    options,
    status,
)
from tests.fakes.tenants import make_snapshot, make_tenant
from tests.unit.backup.test_service import House

ANYWHERE = Reach(anywhere=True)
LARGE = 20 << 20
"""Of random bytes, which go up in two parts: they do not pack."""


class Shifted(SystemClock):
    """The time, and as much more as is said."""

    shift = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.shift


class Rig:
    """A gateway's archives. ``name`` is the folder of this test in the bucket."""

    def __init__(self, place: Path, url: str, name: str, *, large: int = LARGE, conditional: bool = True) -> None:
        self.conditional = conditional
        self.place, self.url, self.name = place, url, name
        self.tenant = full_tenant(place, large=large)
        # What is half written of a line is in no archive.
        (place / "tenants/acme/sessions/s_1.jsonl").write_bytes(b'{"a":1}\n{"b":2}\n')
        self.others: list[Tenant] = []
        self.registry = CollectorRegistry()
        (place / "secrets").mkdir()
        for secret, value in (("ACCESS", ACCESS), ("SECRET", SECRET)):
            (place / "secrets" / secret).write_text(value)
        self.directory = Directory()
        self.declare(url)
        clock = Shifted()
        self.clock = clock
        self.backups = Backups(
            state_dir=place, directory=self.directory, clock=clock, keys=KEYS,
            secrets=SecretStore(credentials_dir=None, secrets_dir=place / "secrets", environ={}), house=House(),
            patience=Patience(attempts=3, first=0.0, most=0.0), metrics=BackupMetrics(self.registry, clock),
        )  # fmt: skip
        self.archives: Archives = self.backups.archives

    def declare(self, url: str, *, rate: int | None = None) -> None:
        backup = BackupConfig(
            conditional_writes=self.conditional,
            to=f"s3://{BUCKET}/{self.name}", endpoint=url, access_key=SecretRef(secret="ACCESS"),
            secret_key=SecretRef(secret="SECRET"), bytes_per_second=rate,
        )  # fmt: skip
        self.directory.publish(make_snapshot(self.tenant, backup=backup))

    def at(self, name: str) -> str:
        return f"s3://{BUCKET}/{self.name}/{name}"

    async def send(self, to: str, *, replaces: bool = False, reach: Reach | None = None) -> Sent:
        return await self.archives.send(self.tenant, to, replaces=replaces, reach=reach or Reach())

    def fresh(self, name: str) -> Tenant:
        made = make_tenant(self.place, name)
        self.others.append(made)
        return made

    def store(self) -> S3Store:
        return S3Store(parse_location(f"s3://{BUCKET}/{self.name}"), options(self.url))

    def object(self, name: str) -> bytes:
        with contextlib.closing(self.store()) as store:
            return store.get(name, most=1 << 30)[0]

    def uploads(self) -> list[str]:
        """Those of this test that are on their way."""
        with contextlib.closing(self.store()) as store, contextlib.suppress(CarrelError):
            with store.speaking("") as (s3, named):
                found = s3.list_multipart_uploads(Bucket=BUCKET, Prefix=named["Key"])
            return [one["Key"] for one in found.get("Uploads", ())]
        return []

    def nothing_left(self) -> bool:
        scratch = self.place / "run/backup"
        return self.uploads() == [] and not list(scratch.iterdir()) and not list((self.place / "tenants").glob(".*"))

    def failures(self, what: str, code: str) -> float:
        found = self.registry.get_sample_value(
            "carrel_backup_failures_total", {"tenant": "acme", "what": what, "code": code}
        )
        return found or 0.0

    def close(self) -> None:
        for tenant in (self.tenant, *self.others):
            tenant.root.close()


@pytest.fixture
async def rig(url: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    held = "rclone" not in request.node.name
    made = Rig(tmp_path, url, request.node.name.partition("[")[0], conditional=held)
    yield made
    made.close()


def contents(place: Path, tenant: str) -> dict[str, tuple[str, int, str]]:
    """What of a tenant's directory an archive has, and an import of it gives back."""
    top = place / "tenants" / tenant
    gone = ("snapshots", "backups.json", "imported.json", "credentials/tokens.json", "sandbox/pipe", "sandbox/out",
            "sandbox/up", "usage/")  # fmt: skip
    return {path: found for path, found in tree(top).items() if not path.startswith(gone)}


async def test_sent_in_parts_and_taken_in_byte_by_byte(rig: Rig) -> None:
    sent = await rig.send(rig.at("acme/one.tar.gz"))
    assert (sent.place, sent.size > LARGE, rig.nothing_left()) == (rig.at("acme/one.tar.gz"), True, True)
    data = rig.object("acme/one.tar.gz")
    assert (len(data), hashlib.sha256(data).hexdigest()) == (sent.size, sent.sha256)
    other = rig.fresh("zeta")
    look = await rig.archives.look(TenantId("newco"), sent.place, sealed=True, reach=Reach())
    assert (look.header.tenant, look.seal, look.files) == ("acme", "own", sent.written.files)
    seen = await rig.archives.fetch(
        other, sent.place, replaces=False, sealed=True, dry_run=True, reach=Reach()
    )  # fmt: skip
    assert (seen.dry_run, contents(rig.place, "zeta")) == (True, {})
    done = await rig.archives.fetch(other, sent.place, replaces=False, sealed=True, dry_run=False, reach=Reach())
    assert (done.taken.files, done.taken.seal) == (sent.written.files, "own")
    assert contents(rig.place, "zeta") == contents(rig.place, "acme")
    again = await rig.archives.fetch(other, sent.place, replaces=False, sealed=False, dry_run=False, reach=Reach())
    assert again.unchanged
    assert rig.nothing_left()


@pytest.mark.parametrize("url", ["seaweed"], indirect=True)
async def test_a_place_that_ends_in_a_slash_is_given_a_name(rig: Rig) -> None:
    sent = await rig.send(rig.at("acme/"))
    name = sent.place.rpartition("/")[2]
    assert name == f"acme-{sent.at:%Y%m%dT%H%M%SZ}.tar.gz"
    assert len(rig.object(f"acme/{name}")) == sent.size


@pytest.mark.parametrize("url", ["seaweed"], indirect=True)
async def test_what_is_there_is_replaced_only_where_that_is_said(rig: Rig) -> None:
    first = await rig.send(rig.at("a.tar.gz"))
    with pytest.raises(ObjectChanged, match="already"):
        await rig.send(rig.at("a.tar.gz"))
    assert rig.failures("export", "object_changed") == 1
    assert hashlib.sha256(rig.object("a.tar.gz")).hexdigest() == first.sha256
    (rig.place / "tenants/acme/sandbox/main.py").write_text("later")
    second = await rig.send(rig.at("a.tar.gz"), replaces=True)
    assert hashlib.sha256(rig.object("a.tar.gz")).hexdigest() == second.sha256 != first.sha256
    assert rig.nothing_left()


async def test_faults_on_the_way_are_outlived(rig: Rig) -> None:
    with FaultyProxy(rig.url) as proxy:
        rig.declare(proxy.url)
        proxy.before += status(500, method="POST", name="uploads") + status(503, method="PUT", name="partNumber=2")
        proxy.after += [
            answer_lost(method="PUT", name="partNumber=1"), answer_lost(method="POST", name="uploadId"),
            cut_after(5 << 20, name="a.tar.gz"), cut_after(10 << 20, name="a.tar.gz"),
        ]  # fmt: skip
        sent = await rig.send(rig.at("a.tar.gz"))
        assert hashlib.sha256(rig.object("a.tar.gz")).hexdigest() == sent.sha256
        done = await rig.archives.fetch(
            rig.fresh("zeta"), sent.place, replaces=False, sealed=True, dry_run=False, reach=Reach()
        )
        assert (done.taken.files, proxy.before, proxy.after) == (sent.written.files, [], [])
        assert contents(rig.place, "zeta") == contents(rig.place, "acme")


async def test_a_store_that_goes_away_leaves_nothing_behind(rig: Rig) -> None:
    with FaultyProxy(rig.url) as proxy:
        rig.declare(proxy.url)
        proxy.before += status(503, method="PUT", name="partNumber=2", times=50)
        with pytest.raises(StoreUnavailable):
            await rig.send(rig.at("a.tar.gz"))
        assert rig.failures("export", "object_store_unavailable") == 1
        assert rig.nothing_left()
        with pytest.raises(ObjectMissing):
            rig.object("a.tar.gz")
        proxy.before.clear()
        await rig.send(rig.at("a.tar.gz"))
        proxy.before += status(503, method="GET", name="a.tar.gz", times=50)
        with pytest.raises(StoreUnavailable):
            await rig.archives.fetch(
                rig.fresh("zeta"), rig.at("a.tar.gz"), replaces=False, sealed=False, dry_run=False, reach=Reach()
            )
        assert (contents(rig.place, "zeta"), rig.nothing_left()) == ({}, True)


async def test_what_is_stopped_leaves_nothing_behind_and_says_so(rig: Rig) -> None:
    with FaultyProxy(rig.url) as proxy:
        rig.declare(proxy.url)

        def stops(exchange: Exchange) -> bool:
            if exchange.method == "PUT":
                rig.backups.close()
            return False

        proxy.before.append(stops)
        with pytest.raises(Cancelled, match="nothing of it"):
            await rig.send(rig.at("a.tar.gz"))
        assert rig.nothing_left()


@pytest.mark.parametrize("url", ["seaweed"], indirect=True)
async def test_one_whose_caller_is_cancelled_ends_before_it_returns(rig: Rig) -> None:
    rig.declare(rig.url, rate=1 << 20)
    going = asyncio.ensure_future(rig.send(rig.at("a.tar.gz")))
    await eventually(lambda: bool(rig.uploads()))
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert rig.nothing_left()
    assert rig.backups.running(rig.tenant.id) is None


@pytest.mark.parametrize("url", ["seaweed"], indirect=True)
async def test_how_far_it_is(rig: Rig) -> None:
    seen = []
    with FaultyProxy(rig.url) as proxy:
        rig.declare(proxy.url)

        def looked(exchange: Exchange) -> bool:
            at = rig.backups.running(rig.tenant.id)
            if at is not None and "partNumber" in exchange.path:
                seen.append((at.phase, at.total, at.done))
            return False

        proxy.after.append(looked)
        sent = await rig.send(rig.at("a.tar.gz"))
    assert {(phase, total) for phase, total, _ in seen} == {("sending", sent.size)}
    assert [done for _, _, done in seen] == sorted(done for _, _, done in seen)


@pytest.mark.parametrize("url", ["seaweed"], indirect=True)
async def test_one_at_a_time_for_each_tenant_and_each_place(rig: Rig) -> None:
    rig.declare(rig.url, rate=1 << 20)
    going = asyncio.ensure_future(rig.send(rig.at("a.tar.gz")))
    await eventually(lambda: bool(rig.uploads()))
    with pytest.raises(Conflict, match="runs already"):
        await rig.send(rig.at("b.tar.gz"))
    other = rig.fresh("zeta")
    with pytest.raises(Conflict, match="very place"):
        await rig.archives.send(other, rig.at("a.tar.gz"), replaces=True, reach=Reach())
    assert len(rig.uploads()) == 1, "the one that runs is not taken for what a death left"
    rig.backups.close()
    with pytest.raises(Cancelled):
        await going


async def test_collecting_ends_what_broke_off_a_day_ago(rclone_url: str, tmp_path: Path) -> None:
    rig = Rig(tmp_path, rclone_url, "collected", large=1000, conditional=False)
    await rig.backups.back_up(rig.tenant)
    with contextlib.closing(rig.store()) as store, store.speaking("acme/left.tar.gz") as (s3, named):
        s3.create_multipart_upload(**named)
    assert (await rig.backups.collect(rig.tenant)).uploads == 0
    assert len(rig.uploads()) == 1
    rig.clock.shift = timedelta(days=2)
    assert (await rig.backups.collect(rig.tenant)).uploads == 1
    assert rig.uploads() == []
    rig.close()


@pytest.fixture
async def small(seaweed_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """Where it goes up whole."""
    made = Rig(tmp_path, seaweed_url, request.node.name.partition("[")[0], large=100_000)
    yield made
    made.close()


async def test_to_and_from_a_directory(small: Rig) -> None:
    to = f"file://{small.place}/usb/acme.tar.gz"
    with pytest.raises(InvalidRequest, match="not beneath"):
        await small.send(to)
    sent = await small.send(to, reach=ANYWHERE)
    file = small.place / "usb/acme.tar.gz"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == sent.sha256
    other = small.fresh("zeta")
    await small.archives.fetch(other, to, replaces=False, sealed=True, dry_run=False, reach=ANYWHERE)
    assert contents(small.place, "zeta") == contents(small.place, "acme")
    assert [path.name for path in file.parent.iterdir()] == ["acme.tar.gz"]


async def test_what_is_no_archive_changes_nothing(small: Rig) -> None:
    other = small.fresh("zeta")
    with contextlib.closing(small.store()) as store:
        store.put("bad.tar.gz", os.urandom(1000))
    for place, kind in (("bad.tar.gz", InvalidRequest), ("none.tar.gz", ObjectMissing)):
        with pytest.raises(kind):
            await small.archives.fetch(
                other, small.at(place), replaces=True, sealed=False, dry_run=False, reach=Reach()
            )  # fmt: skip
        with pytest.raises(kind):
            await small.archives.look(TenantId("newco"), small.at(place), sealed=False, reach=Reach())
    (small.place / "run/backup").mkdir(parents=True, exist_ok=True)
    assert (contents(small.place, "zeta"), small.nothing_left()) == ({}, True)


async def test_one_of_a_tenant_that_is_not_theirs_is_not_theirs(small: Rig) -> None:
    """Whatever its name and folder say: what is in it tells whose it is."""
    await small.send(small.at("zeta/x.tar.gz"))
    other = small.fresh("zeta")
    limited = Reach(only=lambda tenant: tenant in ("zeta", "newco"))
    for dry_run in (True, False):
        with pytest.raises(NotFound):
            await small.archives.fetch(
                other, small.at("zeta/x.tar.gz"), replaces=True, sealed=False, dry_run=dry_run, reach=limited
            )
    with pytest.raises(NotFound):
        await small.archives.look(TenantId("newco"), small.at("zeta/x.tar.gz"), sealed=False, reach=limited)
    with pytest.raises(InvalidRequest, match="limited"):
        await small.archives.look(TenantId("newco"), small.at("acme/x.tar.gz"), sealed=False, reach=limited)
    with pytest.raises(InvalidRequest, match="limited"):
        await small.send(small.at("acme/x.tar.gz"), reach=limited)
    assert (contents(small.place, "zeta"), small.nothing_left()) == ({}, True)


async def test_a_file_of_a_tenant_that_is_not_theirs_brings_no_secrets(small: Rig) -> None:
    """This gateway would open them, and seal them for whoever brought the file."""
    other = small.fresh("zeta")
    limited = Reach(only=lambda tenant: tenant == "zeta")
    async with small.archives.spool() as file:
        await small.archives.export(small.tenant, file)
        for dry_run in (True, False):
            with pytest.raises(NotFound, match="secrets"):
                await small.archives.take_in(other, file, replaces=True, dry_run=dry_run, reach=limited)
        assert (contents(small.place, "zeta"), small.uploads()) == ({}, [])
        assert (await small.archives.take_in(other, file, replaces=True, dry_run=True, reach=Reach())).dry_run


async def test_a_disk_without_room_sends_nothing(small: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    (small.place / "tenants/acme/sandbox/large").write_bytes(bytes(20 << 20))
    monkeypatch.setattr(staging, "RESERVE_BYTES", 1 << 62)
    with pytest.raises(StorageFull):
        await small.send(small.at("a.tar.gz"))
    assert (small.failures("export", "storage_full"), small.nothing_left()) == (1, True)
    with pytest.raises(ObjectMissing):
        small.object("a.tar.gz")


async def test_an_import_that_is_stopped_says_so_and_changes_nothing(small: Rig) -> None:
    await small.send(small.at("a.tar.gz"))
    other = small.fresh("zeta")
    with FaultyProxy(small.url) as proxy:
        small.declare(proxy.url)

        def stops(exchange: Exchange) -> bool:
            if exchange.method == "GET" and "a.tar.gz" in exchange.path:
                small.backups.close()
            return False

        proxy.after.append(stops)
        with pytest.raises(Cancelled, match="nothing was changed"):
            await small.archives.fetch(
                other, small.at("a.tar.gz"), replaces=False, sealed=False, dry_run=False, reach=Reach()
            )
        with pytest.raises(Cancelled, match="nothing was changed"):
            await small.archives.look(TenantId("newco"), small.at("a.tar.gz"), sealed=False, reach=Reach())
    assert (contents(small.place, "zeta"), small.nothing_left()) == ({}, True)
