"""Backups of a gateway that runs: one at a time for each tenant, and a swap only while the tenant rests."""

import asyncio
import io
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carrel.backup import service
from carrel.backup.archive import Header, Writer
from carrel.backup.service import Backups, From, clear_left
from carrel.backup.target import NoTarget
from carrel.clock import SystemClock
from carrel.declare.backup import BackupConfig, KeepBackups
from carrel.errors import CarrelError, Conflict, InvalidRequest, NotFound
from carrel.ids import SessionId, TenantId
from carrel.objects.pace import Cancelled
from carrel.objects.protocol import StoreUnavailable
from carrel.objects.retry import Patience
from carrel.secrets import SecretStore
from carrel.tenancy.handle import Directory, Tenant
from tests.fakes.backups import KEYS, full_tenant
from tests.fakes.patience import eventually, soon
from tests.fakes.tenants import make_snapshot, make_tenant


class House:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.busy = False

    async def flush(self, tenant: Tenant) -> None:
        self.asked.append(f"flush {tenant.id}")

    @asynccontextmanager
    async def at_rest(self, tenant: Tenant) -> AsyncIterator[None]:
        if self.busy:
            raise Conflict("busy")
        self.asked.append("rest")
        yield
        self.asked.append("wake")

    async def carry_over(self, tenant: Tenant, fresh: Path, *, own: bool) -> tuple[str, ...]:
        assert fresh.is_dir()
        self.asked.append(f"carry over, own: {own}")
        return ()

    async def has_session(self, tenant: Tenant, session_id: SessionId) -> bool:
        return session_id == "s_1"

    async def put_session(self, tenant: Tenant, session_id: SessionId, data: bytes, *, replace: bool) -> None:
        self.asked.append(f"put {session_id} {len(data)} {replace}")

    async def commit(self) -> str | None:
        return "c" * 40


class Rig:
    def __init__(self, place: Path) -> None:
        self.place, self.tenant, self.house = place, full_tenant(place), House()
        self.directory = Directory()
        self.declare(BackupConfig(to=f"file://{place}/store"))
        self.service = Backups(
            state_dir=place, directory=self.directory, clock=SystemClock(), keys=KEYS,
            secrets=SecretStore(credentials_dir=None, secrets_dir=None, environ={}), house=self.house,
            patience=Patience(attempts=1),
        )  # fmt: skip

    def declare(self, backup: BackupConfig) -> None:
        self.directory.publish(make_snapshot(self.tenant, backup=backup))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.tenant.root.close()


async def test_made_noted_listed_and_read_back(rig: Rig) -> None:
    info = await rig.service.back_up(rig.tenant)
    assert rig.house.asked == ["flush acme"]
    note = await rig.service.note(rig.tenant)
    assert (note.id, note.failed, note.to) == (info.id, None, f"file://{rig.place}/store")
    assert await rig.service.listed(rig.tenant.id) == [info]
    assert await rig.service.listed(TenantId("zeta")) == []
    newer = await rig.service.back_up(rig.tenant)
    assert await rig.service.verify(rig.tenant, From(backup=info.id)) == []
    assert (await rig.service.note(rig.tenant)).verified is None, "that was an older one"
    assert await rig.service.verify(rig.tenant, From(backup=newer.id)) == []
    assert (await rig.service.note(rig.tenant)).verified is not None
    assert (await rig.service.collect(rig.tenant)).backups == ()
    assert (await rig.service.final(rig.tenant)).files == info.files
    assert rig.service.running(rig.tenant.id) is None


async def test_a_store_that_never_answers_is_named_to_who_waits_for_a_list(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.service.back_up(rig.tenant)
    monkeypatch.setattr(service, "LIST_SECONDS", 0.05)
    monkeypatch.setattr(service, "list_of", lambda repository: time.sleep(0.2))
    with pytest.raises(StoreUnavailable, match=r"file:///\S+/store did not answer within 0\.05 s"):
        await rig.service.listed(rig.tenant.id)


async def test_what_stays_is_what_was_asked_for(rig: Rig) -> None:
    one = KeepBackups(last=1, daily=0, weekly=0, monthly=0)
    await rig.service.back_up(rig.tenant)
    kept = await rig.service.back_up(rig.tenant, keep=KeepBackups(last=2))
    assert len(await rig.service.listed(rig.tenant.id)) == 2
    assert len((await rig.service.collect(rig.tenant, keep=one)).backups) == 1
    assert await rig.service.listed(rig.tenant.id) == [kept]
    newest = await rig.service.back_up(rig.tenant, keep=one)
    assert await rig.service.listed(rig.tenant.id) == [newest]


async def test_a_failure_is_noted_and_the_last_one_does_not_go_without_being_read_back(rig: Rig) -> None:
    rig.declare(BackupConfig(to="file:///proc/nowhere"))
    with pytest.raises(CarrelError):
        await rig.service.back_up(rig.tenant)
    assert (await rig.service.note(rig.tenant)).failed
    rig.declare(BackupConfig())
    with pytest.raises(NoTarget):
        await rig.service.final(rig.tenant)


async def test_restored_while_it_rests_and_undone(rig: Rig) -> None:
    await rig.service.back_up(rig.tenant)
    file = rig.place / "tenants/acme/sandbox/main.py"
    file.write_text("later")
    seen = await rig.service.look(rig.tenant, From())
    assert seen.dry_run
    ready: list[str] = []

    async def told(done: object) -> None:
        ready.append(file.read_text())

    done = await rig.service.restore(rig.tenant, From(), ready=told)
    assert (done.kept_before, ready, rig.house.asked[-3:]) == (
        True,
        ["later"],
        ["rest", "carry over, own: True", "wake"],
    )
    assert "hello" in file.read_text()
    await rig.service.undo(rig.tenant)
    assert file.read_text() == "later"
    with pytest.raises(NotFound):
        await rig.service.undo(rig.tenant)
    await rig.service.restore(rig.tenant, From())
    await rig.service.confirm(rig.tenant)
    assert [path.name for path in (rig.place / "tenants").iterdir()] == ["acme"]


async def test_one_that_cannot_rest_stays_as_it_is(rig: Rig) -> None:
    await rig.service.back_up(rig.tenant)
    rig.house.busy = True
    (rig.place / "tenants/acme/sandbox/main.py").write_text("later")
    with pytest.raises(Conflict):
        await rig.service.restore(rig.tenant, From())
    assert (rig.place / "tenants/acme/sandbox/main.py").read_text() == "later"
    assert [path.name for path in (rig.place / "tenants").iterdir()] == ["acme"]


async def test_one_session(rig: Rig) -> None:
    await rig.service.back_up(rig.tenant)
    one, copy = SessionId("s_1"), SessionId("copy")
    await rig.service.restore_session(rig.tenant, one, From(), as_id=copy, replace_it=False)
    assert rig.house.asked[-1] == "put copy 16 False"
    with pytest.raises(NotFound):
        await rig.service.restore_session(rig.tenant, copy, From(), as_id=copy, replace_it=False)


async def test_a_dry_run_for_one_session_tells_of_that_session(rig: Rig) -> None:
    await rig.service.back_up(rig.tenant)
    asked, one = len(rig.house.asked), SessionId("s_1")

    async def looked(session: str, as_id: str, *, replace_it: bool = False) -> tuple[int, int, int, bool]:
        done = await rig.service.look_session(
            rig.tenant, SessionId(session), From(), as_id=SessionId(as_id), replace_it=replace_it
        )
        return done.files, done.bytes, done.sessions, done.dry_run

    assert await looked("s_1", "copy") == (1, 16, 1, True)
    assert await looked("s_1", one, replace_it=True) == (1, 16, 1, True)
    with pytest.raises(Conflict):
        await looked("s_1", one)
    with pytest.raises(NotFound):
        await looked("none", "copy")
    assert len(rig.house.asked) == asked


async def test_one_at_a_time_and_stopped_with_its_caller(rig: Rig) -> None:
    rig.declare(BackupConfig(to=f"file://{rig.place}/store", bytes_per_second=1024))
    first = asyncio.ensure_future(rig.service.back_up(rig.tenant))
    await eventually(lambda: (at := rig.service.running(rig.tenant.id)) is not None and at.phase == "copying")
    with pytest.raises(Conflict):
        await rig.service.back_up(rig.tenant)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(first)
    assert rig.service.running(rig.tenant.id) is None
    second = asyncio.ensure_future(rig.service.back_up(rig.tenant))
    await eventually(lambda: (at := rig.service.running(rig.tenant.id)) is not None and at.phase == "copying")
    rig.service.close()
    with pytest.raises(Cancelled):
        await soon(second)


async def test_what_runs_can_be_stopped_and_goes_on_the_next_time(rig: Rig) -> None:
    with pytest.raises(NotFound):
        rig.service.stop(rig.tenant.id)
    rig.declare(BackupConfig(to=f"file://{rig.place}/store", bytes_per_second=1024))
    going = asyncio.create_task(rig.service.back_up(rig.tenant))
    await eventually(lambda: any((rig.place / "store/acme").glob("pieces/*/*")))
    rig.service.stop(rig.tenant.id)
    with pytest.raises(Cancelled):
        await soon(going)
    assert rig.service.running(rig.tenant.id) is None
    assert await rig.service.listed(rig.tenant.id) == []


async def test_who_is_not_on_the_machine_names_no_other_place(rig: Rig) -> None:
    with pytest.raises(InvalidRequest):
        await rig.service.back_up(rig.tenant, to=f"file://{rig.place}/other")
    await rig.service.back_up(rig.tenant, to=f"file://{rig.place}/other", anywhere=True)
    with pytest.raises(InvalidRequest):
        await rig.service.look(rig.tenant, From(f"file://{rig.place}/other"))


def test_what_a_killed_gateway_left_goes(tmp_path: Path) -> None:
    (tmp_path / "run/backup/x").mkdir(parents=True)
    (tmp_path / "tenants/.acme.restore").mkdir(parents=True)
    clear_left(tmp_path)
    assert not (tmp_path / "run/backup").exists()
    assert list((tmp_path / "tenants").iterdir()) == []


async def test_carried_out_and_taken_in_once(rig: Rig) -> None:
    async with rig.service.archives.spool() as file:
        await rig.service.archives.export(rig.tenant, file)
        kept = file.read_bytes()
        with pytest.raises(Conflict, match="--replace"):
            await rig.service.archives.take_in(rig.tenant, file, replaces=False)
        (rig.place / "tenants/acme/sandbox/main.py").write_text("later")
        done = await rig.service.archives.take_in(rig.tenant, file, replaces=True)
        assert (done.kept, done.unchanged, done.tokens) == (True, False, False)
        assert rig.house.asked[-3:] == ["rest", "carry over, own: True", "wake"]
        assert (rig.place / "tenants/acme/sandbox/main.py").read_text() == "print('hello')\n" * 10
        with pytest.raises(Conflict, match="still kept"):
            await rig.service.archives.take_in(rig.tenant, file, replaces=True)
        await rig.service.confirm(rig.tenant)
        asked = len(rig.house.asked)
        assert (await rig.service.archives.take_in(rig.tenant, file, replaces=False)).unchanged
        assert len(rig.house.asked) == asked
    assert not file.exists()
    assert sorted(path.name for path in (rig.place / "tenants").iterdir()) == ["acme"]
    assert len(kept) > 1000


async def test_what_is_taken_in_where_nothing_was_made_keeps_nothing_to_decide_on(rig: Rig) -> None:
    other = make_tenant(rig.place, "zeta")
    (rig.place / "tenants/zeta/credentials").mkdir()
    (rig.place / "tenants/zeta/credentials/tokens.json").write_text("{}")
    async with rig.service.archives.spool() as file:
        await rig.service.archives.export(rig.tenant, file)
        done = await rig.service.archives.take_in(other, file, replaces=False)
        assert (done.kept, done.tokens) == (False, True)
        assert "carry over, own: False" in rig.house.asked
    assert not list((rig.place / "tenants").glob(".*"))
    other.root.close()


async def test_an_archive_that_is_none_changes_nothing(rig: Rig) -> None:
    async with rig.service.archives.spool() as file:
        file.write_bytes(b"nothing")
        with pytest.raises(InvalidRequest):
            await rig.service.archives.take_in(rig.tenant, file, replaces=True)
    assert not list((rig.place / "tenants").glob(".*"))
    assert rig.house.asked == []


async def test_an_import_can_be_looked_at_and_its_seal_asked_for(rig: Rig) -> None:
    other = make_tenant(rig.place, "zeta")
    async with rig.service.archives.spool() as file:
        await rig.service.archives.export(rig.tenant, file)
        with pytest.raises(Conflict, match="--replace"):
            await rig.service.archives.take_in(rig.tenant, file, replaces=False, dry_run=True)
        looked = await rig.service.archives.take_in(other, file, replaces=False, dry_run=True)
        assert (looked.dry_run, looked.kept, looked.tokens, looked.taken.seal) == (True, False, True, "own")
        assert rig.house.asked == ["flush acme"]
        assert sorted(path.name for path in (rig.place / "tenants").iterdir()) == ["acme", "zeta"]
        out = io.BytesIO()
        writer = Writer(out, Header(tenant="acme", at=datetime(2026, 3, 1, tzinfo=UTC), carrel="1"))
        writer.data("config.yaml", b"display_name: x\n")
        writer.close()
        file.write_bytes(out.getvalue())
        with pytest.raises(InvalidRequest, match="no seal"):
            await rig.service.archives.take_in(other, file, replaces=False, sealed=True)
        assert (await rig.service.archives.take_in(other, file, replaces=False)).taken.seal == "none"
    other.root.close()


async def test_what_does_not_read_back_is_mended_by_the_next_backup(rig: Rig) -> None:
    await rig.service.back_up(rig.tenant)
    for piece in (rig.place / "store/acme/pieces").rglob("*"):
        if piece.is_file() and piece.stat().st_size > 1 << 20:
            piece.write_bytes(b"damaged")
    assert await rig.service.verify(rig.tenant)
    assert (await rig.service.back_up(rig.tenant)).sent > 1 << 20
    assert await rig.service.verify(rig.tenant) == []
    assert (await rig.service.back_up(rig.tenant)).sent < 1 << 20


@pytest.mark.parametrize("name", ["repository.json", "head"])
async def test_a_key_or_a_list_that_is_wrong_is_told_and_mended_and_nothing_is_sent_anew(rig: Rig, name: str) -> None:
    whole = await rig.service.back_up(rig.tenant)
    (rig.place / "store/acme" / name).write_bytes(b"damaged")
    [problem] = await rig.service.verify(rig.tenant)
    assert problem.endswith("the next backup mends it.")
    assert (await rig.service.note(rig.tenant)).damaged is False
    assert (await rig.service.back_up(rig.tenant)).sent < whole.sent / 10
    assert await rig.service.verify(rig.tenant) == []
