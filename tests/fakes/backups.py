"""A tenant with something of everything, and what a backup of it works with."""

import asyncio
import hashlib
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import apsw

from carrel.backup.catalogue import Origin
from carrel.backup.run import Means, Subject
from carrel.backup.target import Reach
from carrel.clock import Clock
from carrel.declare.backup import KeepBackups
from carrel.errors import CarrelError
from carrel.objects.directory import DirectoryStore
from carrel.objects.pace import Pace
from carrel.objects.protocol import ObjectStore
from carrel.tenancy.handle import Tenant
from carrel.vault.keys import MasterKeys
from carrel.wire import backups as wire
from carrel.wire import control
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_tenant

KEYS = MasterKeys({1: b"1" * 32}, source="test")
ORIGIN = Origin(host="host-a", carrel="0", revision="r" * 64, declared="d" * 64)


def means(
    place: Path, *, store: ObjectStore | None = None, clock: Clock | None = None, keys: MasterKeys = KEYS
) -> Means:
    """What a backup to a directory works with."""
    chosen = store if store is not None else DirectoryStore(place / "store")
    return Means(chosen, keys, clock if clock is not None else FakeClock(), Pace(), place / "scratch")


def subject(tenant: Tenant, origin: Origin = ORIGIN) -> Subject:
    """The tenant as a backup takes it."""
    return Subject(tenant.id, tenant.root.fd, tenant.root.owner, origin)


def full_tenant(state: Path, name: str = "acme", *, large: int = 3 << 20) -> Tenant:
    """A tenant with transcripts, a ledger in use, tokens, a workspace with links, and what a backup leaves out."""
    tenant = make_tenant(state, name)
    top = state / "tenants" / name
    files: Mapping[str, bytes] = {
        "config.yaml": b"display_name: Acme\n",
        "sessions/s_1.jsonl": b'{"a":1}\n{"b":2}\n{"torn',
        "sessions.d/member-ann/s_2.jsonl": b'{"c":3}\n',
        "credentials/tokens.json": b'{"version":1,"tokens":[]}',
        "sandbox/main.py": b"print('hello')\n" * 10,
        "sandbox/data.bin": os.urandom(large),
        "sandbox/empty": b"",
        "sandbox/deep/er/file.txt": b"deep\n",
        "snapshots/one/files/main.py": b"old",
        "backups.json": b"{}",
    }
    for path, content in files.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(content)
    for number in range(200):
        (top / f"sandbox/small-{number}.txt").write_text(f"small file {number}\n" * 5)
    (top / "sandbox/main.py").chmod(0o755)
    (top / "sandbox/link").symlink_to("deep/er/file.txt")
    (top / "sandbox/inside").symlink_to("/workspace/main.py")
    (top / "sandbox/out").symlink_to("/etc/passwd")
    (top / "sandbox/up").symlink_to("../credentials/tokens.json")
    os.mkfifo(top / "sandbox/pipe")
    (top / "usage").mkdir(exist_ok=True)
    ledger = apsw.Connection(str(top / "usage/ledger.sqlite"))
    ledger.pragma("journal_mode", "wal")
    ledger.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, cost TEXT)")
    with ledger:
        ledger.executemany("INSERT INTO rows (cost) VALUES (?)", [(f"0.{n:06d}",) for n in range(2000)])
    ledger.close()
    return tenant


def tree(top: Path) -> dict[str, tuple[str, int, str]]:
    """Every name with its kind, mode and content's hash, as a restore is compared by."""
    found = {}
    for directory, names, files in os.walk(top):
        for name in (*names, *files):
            path = Path(directory, name)
            info = path.lstat()
            mode = stat.S_IMODE(info.st_mode)
            key = path.relative_to(top).as_posix()
            if path.is_symlink():
                found[key] = ("link", 0, str(path.readlink()))
            elif path.is_dir():
                found[key] = ("directory", mode, "")
            elif path.is_file():
                found[key] = ("file", mode, hashlib.sha256(path.read_bytes()).hexdigest())
            else:
                found[key] = ("other", mode, "")
    return found


def rows_of(database: Path) -> list[tuple[object, ...]]:
    """What the ledger of `full_tenant` holds."""
    connection = apsw.Connection(str(database))
    try:
        return list(connection.execute("SELECT id, cost FROM rows ORDER BY id"))
    finally:
        connection.close()


def _kept(keep: KeepBackups | None) -> str:
    return f" keep {keep.last} {keep.daily} {keep.weekly} {keep.monthly}" if keep is not None else ""


def _how(order: wire.ImportOrder | wire.FetchOrder) -> str:
    return f"{' dry' * order.dry_run}{' sealed' * order.sealed}"


def _reach(reach: Reach) -> str:
    return f"{' anywhere' * reach.anywhere}{' only some' * (reach.only is not None)}"


class FakeBackups:
    """One backup of acme's; notes what it is asked for."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.error: CarrelError | None = None
        self.problems: tuple[str, ...] = ()
        self.waits: asyncio.Event | None = None
        self.archive = b"archive" * 400_000
        self.view = wire.BackupView(
            id="20260301T120000Z-00000001", tenant="acme", at=datetime(2026, 3, 1, 12, tzinfo=UTC), host="host-a",
            files=3, bytes=5 << 20, sent=900, left_out=1,
        )  # fmt: skip

    async def list(self, tenant: Tenant, place: str | None, *, local: bool) -> wire.BackupList:
        self._fail()
        views = (self.view,) if tenant.id == "acme" else ()
        failed = None if views else "no bucket"
        return wire.BackupList(tenant=tenant.id, backups=views, failed=failed, verified=self.view.at if views else None)

    def running(self, tenant: Tenant) -> wire.JobView:
        return wire.JobView(running=True, phase="copying", total=10, done=5, eta_seconds=1.5)

    async def stop(self, tenant: Tenant, *, by: control.Actor) -> None:
        self._fail()
        self.done.append(f"stop {tenant.id}")

    async def back_up(
        self, tenant: Tenant, order: wire.BackupOrder, *, by: control.Actor, local: bool
    ) -> wire.BackupView:
        self._fail()
        self.done.append(f"back up {tenant.id} {order.to} {local}{_kept(order.keep)}")
        if self.waits is not None:
            await self.waits.wait()
        return self.view

    async def verify(self, tenant: Tenant, order: wire.VerifyOrder, *, by: control.Actor, local: bool) -> wire.Verified:
        self.done.append(f"verify {order.backup}")
        return wire.Verified(tenant=tenant.id, ok=not self.problems, problems=self.problems)

    async def collect(
        self, tenant: Tenant, order: wire.CollectOrder, *, by: control.Actor, local: bool
    ) -> wire.CollectedView:
        self.done.append(f"collect {order.place}{_kept(order.keep)}")
        return wire.CollectedView(tenant=tenant.id, backups=("a",), pieces=2, bytes=2048)

    async def restore(
        self, tenant: Tenant, order: wire.RestoreOrder, *, by: control.Actor, local: bool
    ) -> wire.RestoreView:
        skipping = " skipping" if order.skip_damaged else ""
        self.done.append(f"restore {order.source} {order.session} {order.dry_run} {local}{skipping}")
        return wire.RestoreView(
            tenant=tenant.id, source=order.source or tenant.id, backup=self.view.id, at=self.view.at, files=3,
            bytes=5 << 20, sessions=2, left_out=1, secrets_lost=("KEY",), tokens_left_out=order.source is not None,
            kept_before=not order.dry_run, dry_run=order.dry_run,
            lost=tuple(f"sandbox/{n}" for n in range(22)) if order.skip_damaged else (),
        )  # fmt: skip

    async def decide(self, tenant: Tenant, order: wire.RestoreDecision, *, by: control.Actor) -> None:
        self.done.append(order.decision)

    @asynccontextmanager
    async def spool(self) -> AsyncIterator[Path]:
        with tempfile.TemporaryDirectory() as place:
            yield Path(place) / "archive"

    async def export(self, tenant: Tenant, file: Path, *, by: control.Actor) -> None:
        self.done.append(f"export {tenant.id}")
        file.write_bytes(self.archive)

    async def take_in(
        self, tenant: Tenant, file: Path, order: wire.ImportOrder, *, by: control.Actor, reach: Reach
    ) -> wire.ImportView:
        self._fail()
        self.archive = file.read_bytes()
        self.done.append(f"take in {tenant.id} {order.replace}{_how(order)}{_reach(Reach(only=reach.only))}")
        return self._imported(tenant.id, order.replace, order.sealed, order.dry_run)

    async def send(
        self, tenant: Tenant, order: wire.ExportOrder, *, by: control.Actor, reach: Reach
    ) -> wire.ExportView:
        self._fail()
        self.done.append(f"send {tenant.id} {order.to} {order.replace}{_reach(reach)}")
        return wire.ExportView(
            tenant=tenant.id, place=f"{order.to}{'acme.tar.gz' * order.to.endswith('/')}", at=self.view.at,
            bytes=5 << 20, sha256="0" * 64, files=3, content=9 << 20, left_out=1,
        )  # fmt: skip

    async def fetch(
        self, tenant: Tenant, order: wire.FetchOrder, *, by: control.Actor, reach: Reach
    ) -> wire.ImportView:
        self._fail()
        self.done.append(f"fetch {tenant.id} {order.place} {order.replace}{_how(order)}{_reach(reach)}")
        return self._imported(tenant.id, order.replace, order.sealed, order.dry_run)

    async def look(self, order: wire.LookOrder, *, reach: Reach) -> wire.ImportView:
        self._fail()
        self.done.append(f"look {order.tenant} {order.place}{_reach(reach)}")
        return self._imported(order.tenant, False, order.sealed, True)

    def _imported(self, tenant: str, replace: bool, sealed: bool, dry_run: bool) -> wire.ImportView:
        return wire.ImportView(
            tenant=tenant, source="carrel", source_tenant="acme", files=2, bytes=3, sessions=1, kept_before=replace,
            dry_run=dry_run, seal="own" if sealed else "none",
        )  # fmt: skip

    async def back_up_own(self, tenant: Tenant, *, by: control.Actor) -> wire.BackupView:
        return await self.back_up(tenant, wire.BackupOrder(), by=by, local=False)

    async def restore_own(self, tenant: Tenant, key: str, *, by: control.Actor) -> wire.RestoreView:
        self._fail()
        return await self.restore(tenant, wire.RestoreOrder(backup=key), by=by, local=False)

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error
