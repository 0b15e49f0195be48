"""Backups in the whole gateway: what they need of other rooms, and who asked for what, in the audit log."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from carrel.agents.sessions import Sessions
from carrel.audit.log import Audit
from carrel.backup.archives import Moved
from carrel.backup.catalogue import BackupInfo
from carrel.backup.restore import Restored, own_id
from carrel.backup.schedule import Schedule
from carrel.backup.service import Backups, From
from carrel.backup.target import Reach
from carrel.clock import Clock
from carrel.errors import CarrelError, Conflict
from carrel.grants.service import Grants
from carrel.ids import SessionId, TenantId, new_request_id, parse_session_id, parse_tenant_id
from carrel.main.carry_over import carry_over
from carrel.metering.service import Metering
from carrel.reconcile.reconciler import Reconciler
from carrel.sandbox.protocol import Sandbox
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Tenant
from carrel.tenancy.tokens import TokenStore
from carrel.vcs.git import Git
from carrel.wire import backups, control

_log = structlog.get_logger(__name__)
T = TypeVar("T")
REST_SECONDS: Final = 60.0
MOST_LOST_TOLD: Final = 1000
WHY: Final = "it is being restored from a backup"


class TenantAtRest:
    """See `backup.service.House`."""

    def __init__(
        self, *, meter: Metering, reconciler: Reconciler, sandbox: Sandbox, sessions: Sessions, tokens: TokenStore,
        grants: Grants, tenants_dir: Path, home: Path,
    ) -> None:  # fmt: skip
        self._home = home
        self._meter = meter
        self._reconciler = reconciler
        self._sandbox = sandbox
        self._sessions = sessions
        self._tokens = tokens
        self._grants = grants
        self._tenants_dir = tenants_dir

    async def flush(self, tenant: Tenant) -> None:
        """Rows that wait for the ledger are written into it."""
        await self._meter.flush()

    @asynccontextmanager
    async def at_rest(self, tenant: Tenant) -> AsyncIterator[None]:
        """Suspended by the house: requests are refused, streams end, sandboxes stop, files are closed."""
        await self._reconciler.rest(tenant.id, WHY)
        try:
            await self._sandbox.stop_tenant(tenant.id)
            try:
                async with asyncio.timeout(REST_SECONDS):
                    await self._sessions.rest(tenant.id)
            except TimeoutError:
                raise Conflict(
                    f"A message to {tenant.id} is being answered for over {REST_SECONDS:g} s: try again when it ended."
                ) from None
            await self._sandbox.stop_tenant(tenant.id)
            await self._meter.rest(tenant.id)
            yield
        finally:
            await asyncio.shield(self._awake(tenant))

    async def _awake(self, tenant: Tenant) -> None:
        try:
            await asyncio.to_thread(self._tokens.reload, tenant.id)
        except CarrelError as error:
            _log.error("tokens cannot be used", tenant=tenant.id, reason=error.message)
        # Whatever fails of it: a tenant that nobody wakes rests until the next start.
        try:
            self._grants.forget(tenant.id)
            await self._meter.wake(tenant.id)
        finally:
            await self._reconciler.wake(tenant.id)

    async def carry_over(self, tenant: Tenant, fresh: Path, *, own: bool) -> tuple[str, ...]:
        """What was charged, and who may do what, goes on from what is there."""
        return await asyncio.to_thread(carry_over, self._home / tenant.id, fresh, tenant.id, own=own)

    async def has_session(self, tenant: Tenant, session_id: SessionId) -> bool:
        """Whether there is a session of that id."""
        return any(one.session_id == session_id for one in await self._sessions.list(tenant))

    async def put_session(self, tenant: Tenant, session_id: SessionId, data: bytes, *, replace: bool) -> None:
        """Take a transcript in."""
        await self._sessions.put(tenant, session_id, data, replace=replace)

    async def commit(self) -> str | None:
        """The commit that tenants.d is at."""
        with suppress(CarrelError):
            git = await Git.find(self._tenants_dir)
            return await git.head() if git is not None else None
        return None


class BackupKeeping:
    """See `http.services.BackupKeeping`."""

    def __init__(self, *, service: Backups, audit: Audit, tasks: Tasks) -> None:
        self._service = service
        self._audit = audit
        self._tasks = tasks

    async def list(self, tenant: Tenant, place: str | None, *, local: bool) -> backups.BackupList:
        """All of a tenant's, newest first."""
        found = await self._service.listed(tenant.id, From(place, anywhere=local))
        note = await self._service.note(tenant)
        return backups.BackupList(
            tenant=tenant.id, backups=tuple(_view(tenant, one) for one in found), last=note.last, failed=note.failed,
            verified=note.verified,
        )  # fmt: skip

    def running(self, tenant: Tenant) -> backups.JobView:
        """How far what runs is."""
        at = self._service.running(tenant.id)
        if at is None:
            return backups.JobView(running=False)
        return backups.JobView(
            running=True, phase=at.phase, total=at.total, done=at.settled, moved=at.moved, files=at.files,
            eta_seconds=at.eta,
        )  # fmt: skip

    async def stop(self, tenant: Tenant, *, by: control.Actor) -> None:
        """End what runs for the tenant."""

        async def work() -> None:
            self._service.stop(tenant.id)

        await self._noted("tenants.backup.stop", tenant, tenant.id, by, work)

    async def back_up(
        self, tenant: Tenant, order: backups.BackupOrder, *, by: control.Actor, local: bool
    ) -> backups.BackupView:
        """Back a tenant up now."""
        info = await self._noted(
            "tenants.backup", tenant, order.to or "as declared", by,
            lambda: self._service.back_up(tenant, to=order.to, keep=order.keep, anywhere=local),
        )  # fmt: skip
        return _view(tenant, info)

    async def back_up_own(self, tenant: Tenant, *, by: control.Actor) -> backups.BackupView:
        """The same, where the tenant asks: to where its operator says."""
        return await self.back_up(tenant, backups.BackupOrder(), by=by, local=False)

    async def scheduled(self, tenant: Tenant) -> None:
        """The same, where nobody asked."""
        await self.back_up(tenant, backups.BackupOrder(), by=_schedule(), local=False)

    async def verified(self, tenant: Tenant) -> None:
        """Read the newest back from where it went, where nobody asked."""
        place = (await self._service.note(tenant)).to
        await self.verify(tenant, backups.VerifyOrder(place=place), by=_schedule(), local=True)

    async def verify(
        self, tenant: Tenant, order: backups.VerifyOrder, *, by: control.Actor, local: bool
    ) -> backups.Verified:
        """Read one back."""
        source = From(order.place, backup=order.backup, anywhere=local)
        problems = await self._noted(
            "tenants.backup.verify", tenant, order.backup or "newest", by, lambda: self._service.verify(tenant, source)
        )
        return backups.Verified(tenant=tenant.id, ok=not problems, problems=tuple(problems[:100]))

    async def collect(
        self, tenant: Tenant, order: backups.CollectOrder, *, by: control.Actor, local: bool
    ) -> backups.CollectedView:
        """Remove what need not stay."""
        done = await self._noted(
            "tenants.backup.collect", tenant, order.place or "as declared", by,
            lambda: self._service.collect(tenant, place=order.place, keep=order.keep, anywhere=local),
        )  # fmt: skip
        return backups.CollectedView(
            tenant=tenant.id, backups=done.backups, pieces=done.pieces, bytes=done.bytes, uploads=done.uploads,
        )  # fmt: skip

    async def restore(
        self, tenant: Tenant, order: backups.RestoreOrder, *, by: control.Actor, local: bool
    ) -> backups.RestoreView:
        """Bring a tenant or one session back."""
        whose = parse_tenant_id(order.source) if order.source is not None else None
        source = From(order.place, whose, order.backup, anywhere=local, skip_damaged=order.skip_damaged)
        target = f"{whose or tenant.id}/{order.backup or 'newest'}"
        if order.session is None:
            if order.dry_run:
                return _restored(await self._service.look(tenant, source))
            whole = await self._noted(
                "tenants.restore", tenant, target, by, lambda: self._service.restore(tenant, source)
            )  # fmt: skip
            return _restored(whole)
        session = parse_session_id(order.session)
        as_id = parse_session_id(order.as_session) if order.as_session is not None else session
        if order.dry_run:
            seen = await self._service.look_session(tenant, session, source, as_id=as_id, replace_it=order.replace)
            return _restored(seen)
        one = await self._noted(
            "tenants.restore.session", tenant, f"{target}/{session}", by,
            lambda: self._service.restore_session(tenant, session, source, as_id=as_id, replace_it=order.replace),
        )  # fmt: skip
        return _restored(one)

    async def restore_own(self, tenant: Tenant, key: str, *, by: control.Actor) -> backups.RestoreView:
        """Where the tenant asks: it is told when all is fetched and judged, for the swap ends its own request."""
        source = From(backup=own_id(tenant.id, key))
        told: asyncio.Future[Restored] = asyncio.get_running_loop().create_future()

        async def ready(done: Restored) -> None:
            if not told.done():
                told.set_result(done)

        async def work() -> Restored:
            return await self._service.restore(tenant, source, ready=ready)

        async def whole() -> Restored | CarrelError:
            try:
                return await self._noted("tenants.restore", tenant, source.backup or "newest", by, work)
            except CarrelError as error:
                return error

        going = self._tasks.start(whole(), name="restore")
        either: list[asyncio.Future[Any]] = [told, going]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            return _restored(told.result())
        outcome = going.result()
        if isinstance(outcome, CarrelError):
            raise outcome
        return _restored(outcome)

    async def decide(self, tenant: Tenant, order: backups.RestoreDecision, *, by: control.Actor) -> None:
        """Confirm or undo the last restore."""
        action: Callable[[Tenant], Awaitable[None]] = (
            self._service.confirm if order.decision == "confirm" else self._service.undo
        )
        await self._noted(f"tenants.restore.{order.decision}", tenant, tenant.id, by, lambda: action(tenant))

    def spool(self) -> AbstractAsyncContextManager[Path]:
        """A file of its own for an archive."""
        return self._service.archives.spool()

    async def export(self, tenant: Tenant, file: Path, *, by: control.Actor) -> None:
        """Write the tenant's archive to ``file``."""
        await self._noted("tenants.export", tenant, tenant.id, by, lambda: self._service.archives.export(tenant, file))

    async def take_in(
        self, tenant: Tenant, file: Path, order: backups.ImportOrder, *, by: control.Actor, reach: Reach
    ) -> backups.ImportView:
        """Make the archive in ``file`` the tenant's."""

        async def work() -> Moved:
            return await self._service.archives.take_in(
                tenant, file, replaces=order.replace, sealed=order.sealed, dry_run=order.dry_run, reach=reach
            )

        moved = await (work() if order.dry_run else self._noted("tenants.import", tenant, tenant.id, by, work))
        return _imported(tenant.id, moved)

    async def send(
        self, tenant: Tenant, order: backups.ExportOrder, *, by: control.Actor, reach: Reach
    ) -> backups.ExportView:
        """Send the tenant's archive to a place."""
        sent = await self._noted(
            "tenants.export", tenant, order.to, by,
            lambda: self._service.archives.send(tenant, order.to, replaces=order.replace, reach=reach),
        )  # fmt: skip
        return backups.ExportView(
            tenant=tenant.id, place=sent.place, at=sent.at, bytes=sent.size, sha256=sent.sha256,
            files=sent.written.files, content=sent.written.bytes, left_out=sent.written.left_out,
        )  # fmt: skip

    async def fetch(
        self, tenant: Tenant, order: backups.FetchOrder, *, by: control.Actor, reach: Reach
    ) -> backups.ImportView:
        """Make the archive at a place the tenant's."""

        async def work() -> Moved:
            return await self._service.archives.fetch(
                tenant, order.place, replaces=order.replace, sealed=order.sealed, dry_run=order.dry_run, reach=reach
            )

        moved = await (work() if order.dry_run else self._noted("tenants.import", tenant, order.place, by, work))
        return _imported(tenant.id, moved)

    async def look(self, order: backups.LookOrder, *, reach: Reach) -> backups.ImportView:
        """What is in the archive at a place, for a tenant that need not be declared."""
        target = parse_tenant_id(order.tenant)
        done = await self._service.archives.look(target, order.place, sealed=order.sealed, reach=reach)
        return _imported(target, Moved(done, tokens=done.header.tenant != target, dry_run=True))

    async def _noted(
        self, action: str, tenant: Tenant, target: str, by: control.Actor, work: Callable[[], Awaitable[T]]
    ) -> T:
        async with self._audit.change(
            actor=by.name, action=action, target=target[:200], tenant=tenant.id, request_id=by.request_id
        ):
            return await work()


def _schedule() -> control.Actor:
    return control.Actor("schedule", new_request_id())


def _view(tenant: Tenant, info: BackupInfo) -> backups.BackupView:
    return backups.BackupView(
        id=info.id, tenant=tenant.id, at=info.at, host=info.host, files=info.files, bytes=info.bytes, sent=info.sent,
        left_out=info.left_out, revision=info.revision, damaged=info.damaged,
        lost=info.lost,
    )  # fmt: skip


def _imported(tenant: TenantId, moved: Moved) -> backups.ImportView:
    done = moved.taken
    return backups.ImportView(
        tenant=tenant, source=done.header.source, source_tenant=done.header.tenant, files=done.files,
        bytes=done.bytes, sessions=done.sessions, left_out=done.left_out, secrets_lost=moved.secrets,
        tokens_left_out=moved.tokens, kept_before=moved.kept, unchanged=moved.unchanged, seal=done.seal,
        dry_run=moved.dry_run,
    )  # fmt: skip


def _restored(done: Restored) -> backups.RestoreView:
    return backups.RestoreView(
        tenant=done.tenant, source=done.source, backup=done.backup, at=done.at, files=done.files, bytes=done.bytes,
        sessions=done.sessions, left_out=done.left_out, secrets_lost=done.secrets_lost,
        tokens_left_out=done.tokens_left_out, kept_before=done.kept_before, snapshots=done.snapshots,
        damaged=done.damaged, put_by=done.put_by, lost=done.lost[:MOST_LOST_TOLD], dry_run=done.dry_run,
    )  # fmt: skip


def keep_backups(service: Backups, *, directory: Directory, clock: Clock, audit: Audit, tasks: Tasks) -> BackupKeeping:
    """Begin to keep backups: the schedule runs, once what a killed gateway left is taken away."""
    keeping = BackupKeeping(service=service, audit=audit, tasks=tasks)
    schedule = Schedule(
        directory=directory, clock=clock, tasks=tasks, note=service.note, back_up=keeping.scheduled,
        verify=keeping.verified,
    )  # fmt: skip
    tasks.start(schedule.run(), name="schedule")
    return keeping
