"""A tenant's quota of the disk: what its workspaces may take together, held while commands run and between.

The trees are walked in a thread: when it cannot be ruled out that the tenant is over (by what the whole file system has
lost since the last walk), and else after a pause that is a multiple of what a walk takes. The nearer a tenant may be to
its limit, the sooner comes the next look; where there are cgroups, its sandboxes stand still while that is found out. A
tenant that is over may still run commands, to delete: they cannot make any file longer, and are ended
where the tenant takes more all the same.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from carrel.declare.quotas import Quotas
from carrel.errors import CarrelError, DiskQuotaExceeded
from carrel.ids import TenantId
from carrel.sandbox.protocol import Job, KillReason, Measured, Outcome
from carrel.sandbox.usage import Moved, Use, measure
from carrel.tasks import Tasks
from carrel.tenancy.handle import Tenant

LOOK_SECONDS: Final = (0.005, 0.1)
FASTEST: Final = 2 << 30
"""Bytes a second that a command is taken to write at most: so long before a limit can be passed there is a look."""
PAUSE: Final = (0.5, 15.0)
PAUSE_WALKS: Final = 10
IDLE_SECONDS: Final = 10.0
AT_ONCE: Final = 2
SLACK: Final = Use(4 << 20, 1000)
"""What a tenant that is over may grow by as it tidies up: directories get longer, tools write down what they do."""
_NOTHING: Final = Use()
_BOUNDLESS: Final = 1 << 62
_BOUNDLESS_USE: Final = Use(_BOUNDLESS, _BOUNDLESS)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a tenant stands with its quota as a run begins. ``note`` is what whoever runs it should know."""

    over: bool = False
    note: str = ""


@dataclass(eq=False)
class _Command:
    """One that runs: in which workspace, what that took when it began, and how to end it."""

    workspace: str
    began_with: Use
    on_over: Callable[[KillReason], None]


@dataclass(eq=False)
class _Share:
    """What is known of one tenant. ``free`` is what the file system had left as the last walk began."""

    tenant: Tenant
    hard: Use
    soft: Use
    used: dict[str, Use] = field(default_factory=dict)
    allowed: Use = field(default_factory=Use)
    known: bool = False
    free: int = 0
    took: float = 0.0
    at: float = 0.0
    walking: "asyncio.Task[None] | None" = None
    watching: "asyncio.Task[None] | None" = None
    commands: list[_Command] = field(default_factory=list)

    @property
    def use(self) -> Use:
        return sum(self.used.values(), _NOTHING)


class DiskQuotas:
    """All tenants'. ``lives_on`` tells whether something of a tenant's runs between commands, ``end`` ends that.

    ``freeze`` lets all that runs for a tenant stand still, or go on; it blocks, and does nothing where nothing can.
    """

    def __init__(
        self, *, tasks: Tasks, lives_on: Callable[[TenantId], bool], end: Callable[[TenantId], None],
        freeze: Callable[[TenantId, bool], None] = lambda _tenant, _still: None,
        measured: Measured = lambda _tenant, _quota, _used: None,
    ) -> None:  # fmt: skip
        self._tasks = tasks
        self._freeze = freeze
        self._tell = measured
        self._lives_on = lives_on
        self._end = end
        self._shares: dict[TenantId, _Share] = {}
        self._walks = asyncio.Semaphore(AT_ONCE)

    async def admit(self, tenant: Tenant) -> Standing:
        """How the tenant stands; measured now where nothing newer is known that settles it."""
        share = self._of(tenant)
        if share is None:
            return Standing()
        if self._may_be_over(share):
            await self._measured(share)
        use = share.use
        if use.over(share.hard):
            share.allowed = _tidying(share)
            return Standing(
                True, f"{self._said(share)} A command can delete now, and make files longer once less is taken."
            )
        return Standing(note=self._said(share) if use.over(share.soft) else "")

    async def room(self, tenant: Tenant, size: int) -> None:
        """Raise DiskQuotaExceeded where a file of ``size`` bytes does not fit; it is counted where it does."""
        share = self._of(tenant)
        if share is None:
            return
        wanted = Use(size, 1)
        if self._may_be_over(share, wanted):
            await self._measured(share)
        if (share.use + wanted).over(share.hard):
            raise DiskQuotaExceeded(
                f"{self._said(share)} {size} bytes more do not fit: nothing was written. Delete what is not needed "
                "(`rm` in the shell), or ask the operator for more."
            )
        share.used["sandbox"] = share.used.get("sandbox", Use()) + wanted

    async def use(self, tenant: Tenant) -> Use:
        """What the workspaces take: measured anew, unless that was done so lately that asking would be a load."""
        share = self._of(tenant) or self._share(tenant, None, None)
        age = asyncio.get_running_loop().time() - share.at
        if not share.known or age > max(PAUSE[0], share.took * PAUSE_WALKS):
            await self._measured(share)
        return share.use

    @contextlib.contextmanager
    def watching(self, tenant: Tenant, workspace: str, on_over: Callable[[KillReason], None]) -> Iterator[None]:
        """Look at what the tenant takes while a command runs; ``on_over`` is called where that is too much."""
        share = self._of(tenant)
        if share is None:
            yield
            return
        command = _Command(workspace, share.used.get(workspace, Use()), on_over)
        share.commands.append(command)
        if share.watching is None:
            share.watching = self._tasks.start(self._watch(share), name="disk quota")
        try:
            yield
        finally:
            share.commands.remove(command)

    def _of(self, tenant: Tenant) -> _Share | None:
        quotas = tenant.config.quotas
        hard, soft = _limit(quotas, "hard"), _limit(quotas, "soft")
        return None if hard is None and soft is None else self._share(tenant, hard, soft)

    def _share(self, tenant: Tenant, hard: Use | None, soft: Use | None) -> _Share:
        share = self._shares.get(tenant.id)
        if share is None:
            share = self._shares[tenant.id] = _Share(tenant, Use(), Use())
        share.tenant, share.hard, share.soft = tenant, hard or _BOUNDLESS_USE, soft or _BOUNDLESS_USE
        return share

    def _may_be_over(self, share: _Share, wanted: Use = _NOTHING) -> bool:
        """Whether what is known leaves it open: all that the file system has lost may be this tenant's."""
        if not share.known:
            return True
        lost = max(0, self._lost(share))
        return (share.use + wanted + Use(lost, 0)).over(share.hard) or share.use.over(share.soft)

    async def _watch(self, share: _Share) -> None:
        """Until nothing of the tenant's runs any more, and then once more."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                last = not share.commands and not self._lives_on(share.tenant.id)
                shortest, longest = PAUSE if share.commands else (IDLE_SECONDS, IDLE_SECONDS)
                pause = min(max(shortest, share.took * PAUSE_WALKS), longest)
                if self._grows_fast(share):
                    await self._judged_still(share)
                elif last or loop.time() - share.at >= pause:
                    await self._measured(share)
                    self._judge(share)
                if last and not share.commands:
                    return
                await asyncio.sleep(look_after(share.allowed.bytes - share.use.bytes - self._lost(share)))
        except (OSError, CarrelError) as error:
            # The tenant is gone, or its directory is: the next run looks anew.
            _log.warning("a tenant's use of the disk cannot be seen", tenant=share.tenant.id, error=str(error))
            share.known = False
        finally:
            share.watching = None

    async def _judged_still(self, share: _Share) -> None:
        """Walk while nothing of the tenant's runs, and end what is over before it goes on.

        No more than half of the time: what the file system loses may be another tenant's doing.
        """
        still = asyncio.get_running_loop().time() - share.at >= share.took
        if still:
            await asyncio.to_thread(self._freeze, share.tenant.id, True)
        try:
            await self._measured(share)
            self._judge(share)
        finally:
            if still:
                # What is killed while it stands still dies; whoever cancels this waits for the others to go on.
                await asyncio.shield(asyncio.to_thread(self._freeze, share.tenant.id, False))

    def _lost(self, share: _Share) -> int:
        """What the file system has less than as the last walk began; negative where it has more."""
        return share.free - _free(share.tenant)

    def _grows_fast(self, share: _Share) -> bool:
        lost = self._lost(share)
        return lost > SLACK.bytes and (share.use + Use(lost, 0)).over(share.allowed)

    def _judge(self, share: _Share) -> None:
        """End who made it too much: commands in workspaces that grew since they began, else all of them."""
        if not share.use.over(share.allowed):
            return
        why: KillReason = "disk_quota" if share.use.bytes > share.allowed.bytes else "inode_quota"
        _log.warning(
            "a tenant is over its quota of the disk", tenant=share.tenant.id, bytes=share.use.bytes,
            files=share.use.files, ended=len(share.commands),
        )  # fmt: skip
        grown = [one for one in share.commands if share.used.get(one.workspace, Use()).over(one.began_with)]
        for command in grown or list(share.commands):
            command.on_over(why)
        if not share.commands:
            self._end(share.tenant.id)

    async def _measured(self, share: _Share) -> None:
        """Walk now, or wait for a walk that is under way."""
        if share.walking is None:
            share.walking = self._tasks.start(self._walk(share), name="walk")
        await asyncio.shield(share.walking)

    async def _walk(self, share: _Share) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with self._walks:
                began = loop.time()
                free = 0
                try:
                    free = await asyncio.to_thread(_free, share.tenant)
                    used = await asyncio.to_thread(measure, share.tenant.root)
                except (Moved, OSError, CarrelError) as error:
                    _log.warning("a workspace could not be measured", tenant=share.tenant.id, error=str(error))
                    # Whoever hides what is taken is held to have taken all.
                    used = {"": Use(_BOUNDLESS, 0)} if isinstance(error, Moved) else share.used
                share.used, share.free, share.known = used, free, True
                self._tell(share.tenant, "disk_bytes", share.use.bytes)
                self._tell(share.tenant, "disk_files", share.use.files)
                share.at = loop.time()
                share.took = share.at - began
                # As one that is over shrinks, it may not grow again.
                share.allowed = _least(share.allowed, _tidying(share)) if share.use.over(share.hard) else share.hard
        finally:
            share.walking = None

    def _said(self, share: _Share) -> str:
        use, limits = share.use, []
        if share.hard.bytes < _BOUNDLESS or share.soft.bytes < _BOUNDLESS:
            of = _of(use.bytes, share.hard.bytes, share.soft.bytes, "disk_bytes")
            limits.append(f"{use.bytes} bytes, {of}")
        if share.hard.files < _BOUNDLESS or share.soft.files < _BOUNDLESS:
            of = _of(use.files, share.hard.files, share.soft.files, "disk_files")
            limits.append(f"{use.files} files, {of}")
        return f"The workspace takes {' and '.join(limits)}."


def _of(used: int, hard: int, soft: int, quota: str) -> str:
    """The limit that ``used`` is next to, or over: the soft one is named as such."""
    if soft >= hard or used > hard:
        return f"of {hard} (quotas.{quota})"
    return f"of {soft} (the soft limit of quotas.{quota})"


def look_after(left: int) -> float:
    """Seconds until the next look, where ``left`` bytes may be written before a limit is passed."""
    shortest, longest = LOOK_SECONDS
    return min(max(left / FASTEST, shortest), longest)


def tidying(job: Job) -> Job:
    """The job of a tenant that is over: it makes no file longer, in /tmp neither.

    The limit is set inside, once the sandbox's own files of /etc are written; nothing can raise it again.
    """
    return replace(job, argv=(job.userland.shell, "-c", 'ulimit -f 0 && exec "$@"', job.userland.shell, *job.argv))


def told(outcome: Outcome, standing: Standing) -> Outcome:
    """What came of a job, with what there is to say about the quota."""
    killed = outcome.killed
    if standing.over and killed == "file_size":
        killed = "disk_quota"
    note = " ".join(text for text in (outcome.note, standing.note) if text)
    return replace(outcome, note=note, killed=killed)


def _tidying(share: _Share) -> Use:
    """What one that is over may take while it deletes."""
    most = share.use + SLACK
    return Use(max(share.hard.bytes, most.bytes), max(share.hard.files, most.files))


def _least(one: Use, other: Use) -> Use:
    return Use(min(one.bytes, other.bytes), min(one.files, other.files))


def _limit(quotas: Quotas, kind: str) -> Use | None:
    found: list[int | None] = [getattr(quotas.count(name), kind) for name in ("disk_bytes", "disk_files")]
    if found == [None, None]:
        return None
    size, files = (_BOUNDLESS if value is None else value for value in found)
    return Use(size, files)


def _free(tenant: Tenant) -> int:
    found = os.fstatvfs(tenant.root.fd)
    return found.f_bfree * found.f_frsize
