"""All terminals of all tenants: who may open how many, how long they live, and what the record says of them.

A terminal lives on while nobody looks. It ends with its shell, by whoever closes it, when nothing was typed or shown
for its idle time, at its longest time, with the credential that opened it, and with its tenant.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import structlog

from carrel.clock import Clock
from carrel.errors import CarrelError, InvalidRequest, NotFound, SandboxBusy, StorageFailed, Unavailable, lacking
from carrel.events.hub import Hub
from carrel.ids import RequestId, SessionId, TenantId
from carrel.sandbox.modes import UNTRUSTED_CODE, confinement_in, limits_in, mode_of
from carrel.sandbox.protocol import EgressGate, Job, Sandbox, Size
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Tenant
from carrel.tenancy.userland import Userland
from carrel.terminal.left import Began, Left
from carrel.terminal.recording import Kept, Recording, read_recording, recordings
from carrel.terminal.screen import End, Reason, Screen

MOST_IN_ALL: Final = 256
LOOK_SECONDS: Final = 0.4
ENVIRONMENT_SECONDS: Final = 60.0
ENDED_SECONDS: Final = 60.0
"""How long one that has ended is known, for who reads it by polling."""
CLOSE_SECONDS: Final = 10.0
_MOST_ENDED: Final = 16
_PROMPT: Final = r"\[\e[32m\]\u\[\e[0m\]:\[\e[34m\]\w\[\e[0m\]\$ "
_SHELL: Final = f"command -v bash >/dev/null 2>&1 && PS1='{_PROMPT}' exec bash -i; exec \"$0\" -i"
"""The shell that people are used to, where the closure has it."""
_ENV: Final = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
_log = structlog.get_logger(__name__)


class Environments(Protocol):
    """Userlands by what is in them."""

    async def userland(self, packages: frozenset[str], *, wait: float) -> Userland: ...


class Egress(Protocol):
    """The ways out of sandboxes."""

    def gate(
        self, tenant: Tenant, *, agent: str, session_id: SessionId | None, member: str | None,
        request_id: RequestId | None,
    ) -> EgressGate: ...  # fmt: skip


class Audit(Protocol):
    """The record."""

    async def record(
        self, *, actor: str, action: str, target: str, request_id: str, outcome: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> None: ...  # fmt: skip


@dataclass(frozen=True, slots=True)
class Order:
    """A terminal to open. ``agent`` is the one whose ways out it has, ``workspace`` where it begins.

    ``allowed`` says whether the credential that asks for it still holds. ``shell`` is a program in place of the shell.
    """

    id: str
    actor: str
    request_id: RequestId
    agent: str
    workspace: str
    size: Size
    allowed: Callable[[], bool]
    shell: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    record: bool = False


@dataclass(eq=False)
class _Life:
    """One terminal, from before it has a screen."""

    tenant: Tenant
    order: Order
    job: Job
    recording: Recording | None
    opened: "asyncio.Future[Screen]"
    screen: Screen | None = None
    failed: str = ""

    @property
    def outcome(self) -> str:
        """How it ended, as the record says it."""
        if self.failed or self.screen is None or self.screen.end is None:
            return f"failed: {self.failed or 'cancelled'}"
        return self.screen.end.reason

    def told(self, now: datetime) -> dict[str, object] | None:
        """What the record says besides."""
        screen = self.screen
        if screen is None or screen.end is None:
            return None
        return {
            "exit_code": screen.end.exit_code, "signal": screen.end.signal, "bytes_in": screen.bytes_in,
            "bytes_out": screen.bytes_out, "seconds": round((now - screen.began).total_seconds(), 3),
        }  # fmt: skip


class Terminals:
    """Opens them, finds them, and ends them."""

    def __init__(
        self, *, state_dir: Path, sandbox: Sandbox, environments: Environments, egress: Egress, directory: Directory,
        audit: Audit, hub: Hub, clock: Clock, tasks: Tasks,
    ) -> None:  # fmt: skip
        self._sandbox = sandbox
        self._environments = environments
        self._egress = egress
        self._directory = directory
        self._audit = audit
        self._hub = hub
        self._clock = clock
        self._tasks = tasks
        self._left = Left(state_dir)
        self._screens: dict[str, Screen] = {}
        self._opening: dict[str, TenantId] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    async def start(self) -> None:
        """Say in the record how those ended that a gateway left when it was killed, and look after all from now on."""
        for began in await asyncio.to_thread(lambda: tuple(self._left.all())):
            await self._audit.record(
                actor=began.actor, action="terminal.end", target=began.id, tenant=began.tenant,
                request_id=began.request_id, outcome="gateway_lost",
            )  # fmt: skip
            await asyncio.to_thread(self._left.clear, began.id)
        self._tasks.start(self._watch(), name="watch")

    async def open(self, tenant: Tenant, order: Order) -> Screen:
        """A new one; raises SandboxBusy where there are enough, SandboxUnavailable, Unavailable, StorageFailed."""
        config = tenant.config.terminal
        if not config.enabled:
            raise NotFound("This tenant has no terminals (terminal.enabled).")
        if self._closing:
            raise Unavailable("The gateway is stopping; try again in a moment.")
        mine = [one for one in self._screens.values() if one.tenant.id == tenant.id and one.end is None]
        if len(mine) + list(self._opening.values()).count(tenant.id) >= config.most:
            raise SandboxBusy(f"{config.most} terminals of this tenant are open (terminal.most): close one first.")
        if len(self._screens) + len(self._opening) >= MOST_IN_ALL:
            raise SandboxBusy(f"{MOST_IN_ALL} terminals are open on this gateway. Try again later.")
        self._opening[order.id] = tenant.id
        try:
            return await self._opened(tenant, order)
        finally:
            del self._opening[order.id]

    def of(self, tenant: Tenant, *, all_members: bool) -> Sequence[Screen]:
        """The tenant's that run: those of its member, or of all of them."""
        return tuple(one for one in self._mine(tenant, all_members=all_members) if one.end is None)

    def get(self, tenant: Tenant, terminal_id: str, *, all_members: bool) -> Screen:
        """One, also where it ended a moment ago; raises NotFound."""
        for one in self._mine(tenant, all_members=all_members):
            if one.id == terminal_id:
                return one
        raise NotFound("No such terminal.")

    async def recordings(self, tenant: Tenant) -> Sequence[Kept]:
        """Those that are kept of the tenant's terminals, the newest first."""
        return await asyncio.to_thread(recordings, tenant.root)

    async def recording(self, tenant: Tenant, terminal_id: str, *, offset: int, most: int) -> tuple[bytes, int]:
        """Up to ``most`` bytes of one from ``offset`` on, and its size; raises NotFound."""
        return await asyncio.to_thread(read_recording, tenant.root, terminal_id, offset=offset, most=most)

    async def close(self) -> None:
        """End all of them, with a line in the record for each."""
        self._closing = True
        for screen in self._screens.values():
            screen.stop("shutdown")
        if self._lives:
            await asyncio.wait(self._lives.values(), timeout=CLOSE_SECONDS)

    def _mine(self, tenant: Tenant, *, all_members: bool) -> Sequence[Screen]:
        return [
            one
            for one in self._screens.values()
            if one.tenant.id == tenant.id and (all_members or one.member == tenant.member)
        ]

    async def _opened(self, tenant: Tenant, order: Order) -> Screen:
        job = await self._job(tenant, order)
        began = Began(order.id, tenant.id, order.actor, order.request_id)
        try:
            await asyncio.to_thread(self._left.note, began)
        except OSError as error:
            raise lacking(error, "no terminal is opened") or StorageFailed(
                f"The gateway cannot write its state ({error.strerror}): no terminal is opened."
            ) from None
        recording = None
        try:
            await self._audit.record(
                actor=order.actor, action="terminal.start", target=order.id, tenant=tenant.id,
                request_id=order.request_id, outcome="ok", after=self._told(tenant, order),
            )  # fmt: skip
            if _recorded(tenant, order):
                recording = await Recording.begun(
                    tenant, order.id, order.size, moment=self._clock.now(), now=self._clock.monotonic
                )
        except BaseException:
            self._left.clear(order.id)
            raise
        life = _Life(tenant, order, job, recording, asyncio.get_running_loop().create_future())
        task = self._tasks.start(self._live(life), name=f"live {order.id}")
        self._lives[order.id] = task
        task.add_done_callback(lambda _: self._lives.pop(order.id, None))
        try:
            return await asyncio.shield(life.opened)
        except asyncio.CancelledError:
            # Whoever asked is gone, and knows no name to come back by.
            task.cancel()
            raise

    async def _job(self, tenant: Tenant, order: Order) -> Job:
        config, declared = tenant.config.terminal, tenant.config.sandbox
        userland = await self._environments.userland(frozenset(tenant.config.packages), wait=ENVIRONMENT_SECONDS)
        await asyncio.to_thread(lambda: tenant.root.directory(order.workspace, create=True).close())
        mode = mode_of(declared, "shell", UNTRUSTED_CODE)
        limits = limits_in(declared, mode).model_copy(
            update={"wall_seconds": config.total_seconds, "cpu_seconds": config.cpu_seconds}
        )
        argv = (order.shell,) if order.shell is not None else (userland.shell, "-c", _SHELL, userland.shell)
        gate = self._egress.gate(
            tenant, agent=order.agent, session_id=None, member=tenant.own, request_id=order.request_id
        )
        return Job(
            argv=argv, limits=limits, userland=userland, workspace=order.workspace, env={**_ENV, **order.env},
            gate=gate, confinement=confinement_in(declared, mode),
        )  # fmt: skip

    async def _live(self, life: _Life) -> None:
        """One terminal from its beginning to its line in the record."""
        tenant, order, recording = life.tenant, life.order, life.recording
        writing = recording.write_along(self._tasks) if recording is not None else None
        try:
            async with self._sandbox.pty(tenant, life.job, order.size) as pty:
                life.screen = screen = Screen(
                    id=order.id, tenant=tenant, actor=order.actor, pty=pty, size=order.size, began=self._clock.now(),
                    now=self._clock.monotonic, recording=recording, allowed=order.allowed,
                )  # fmt: skip
                self._screens[order.id] = screen
                self._publish(screen, "terminal.started")
                if not life.opened.done():
                    life.opened.set_result(screen)
                await screen.run()
        except CarrelError as error:
            life.failed = error.code
            if not life.opened.done():
                life.opened.set_exception(error)
            else:
                _log.warning("a terminal failed", tenant=tenant.id, terminal=order.id, code=error.code)
        finally:
            if writing is not None:
                writing.cancel()
            await asyncio.shield(self._over(life))

    async def _over(self, life: _Life) -> None:
        """What is to be done when it has ended, however it did."""
        screen, order = life.screen, life.order
        if screen is not None:
            if screen.end is None:
                screen.fail()
            self._publish(screen, "terminal.ended", screen.end)
            asyncio.get_running_loop().call_later(ENDED_SECONDS, self._forget, screen)
        if life.recording is not None:
            await life.recording.close()
        try:
            await self._audit.record(
                actor=order.actor, action="terminal.end", target=order.id, tenant=life.tenant.id,
                request_id=order.request_id, outcome=life.outcome, after=life.told(self._clock.now()),
            )  # fmt: skip
            await asyncio.to_thread(self._left.clear, order.id)
        except StorageFailed as error:
            # Its file stays, so that the next start says that it ended.
            _log.error("the end of a terminal is not in the record", terminal=order.id, reason=error.message)

    def _publish(self, screen: Screen, kind: str, end: End | None = None) -> None:
        payload: dict[str, object] = {"terminalId": screen.id}
        if end is not None:
            payload |= {"reason": end.reason, "exitCode": end.exit_code, "signal": end.signal}
        self._hub.publish(screen.tenant, kind, payload, own=screen.tenant.own)

    def _forget(self, screen: Screen) -> None:
        self._screens.pop(screen.id, None)

    @staticmethod
    def _told(tenant: Tenant, order: Order) -> dict[str, object]:
        return {
            "agent": order.agent, "workspace": order.workspace, "recorded": _recorded(tenant, order),
            **({"member": tenant.member} if tenant.member is not None else {}),
            **({"shell": order.shell[:200]} if order.shell is not None else {}),
        }  # fmt: skip

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            for screen in list(self._screens.values()):
                if screen.end is None:
                    screen.drop_stalled()
                    why = self._over_by(screen)
                    if why is not None:
                        _log.info("a terminal is ended", tenant=screen.tenant.id, terminal=screen.id, reason=why)
                        screen.stop(why)
            self._forget_oldest()

    def _over_by(self, screen: Screen) -> Reason | None:
        """Why a terminal is to end now, None where it may go on."""
        tenant = self._directory.current.tenants.get(screen.tenant.id)
        if tenant is None or tenant.suspended or not tenant.config.terminal.enabled:
            return "suspended"
        if not tenant.has_member(screen.member) or not screen.allowed():
            return "revoked"
        if self._clock.monotonic() - screen.used > tenant.config.terminal.idle_seconds:
            return "idle"
        return None

    def _forget_oldest(self) -> None:
        """Keep no more than a few that have ended of any tenant."""
        ended: dict[TenantId, list[Screen]] = {}
        for screen in self._screens.values():
            if screen.end is not None:
                ended.setdefault(screen.tenant.id, []).append(screen)
        for theirs in ended.values():
            for screen in theirs[:-_MOST_ENDED]:
                self._forget(screen)


def _recorded(tenant: Tenant, order: Order) -> bool:
    """Whether it is recorded; raises InvalidRequest where that was asked for and may not be."""
    rule = tenant.config.terminal.record
    if rule == "never" and order.record:
        raise InvalidRequest("Terminals of this tenant are not recorded (terminal.record).", param="record")
    return rule == "always" or order.record
