"""Requests for access, decisions on them, and what they open until they are over."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final, Protocol
from weakref import WeakValueDictionary

import structlog

from carrel.clock import Clock
from carrel.declare.egress import parsed, pattern
from carrel.declare.tenant import ALL_TOOLS
from carrel.errors import CarrelError, Forbidden, InvalidRequest, NotFound, RateLimited
from carrel.grants.book import MOST_WAITING, Decision, Grant, Kind, new_id, read, write
from carrel.ids import RequestId, SessionId, TenantId
from carrel.policy.egress.addresses import address_refused
from carrel.policy.egress.rules import Asked, Rule, rule_of
from carrel.tasks import Tasks
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire.control import Actor

WAIT_SECONDS: Final = 60.0
_log = structlog.get_logger(__name__)


class Record(Protocol):
    """The audit log."""

    def change(
        self, *, actor: str, action: str, target: str, request_id: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> AbstractAsyncContextManager[None]:  # fmt: skip
        """Make a change within it: its one line says how it ended. Raises StorageFull where none could be kept."""
        ...


class Packages(Protocol):
    """Puts a package into a tenant's sandbox."""

    async def add(self, snapshot: Snapshot, tenant: Tenant, names: Sequence[str], *, by: Actor) -> object:
        """Choose it."""
        ...


class Asker(Protocol):
    """Who is behind a request out of a sandbox."""

    @property
    def tenant_id(self) -> TenantId: ...
    @property
    def agent(self) -> str: ...
    @property
    def session_id(self) -> SessionId | None: ...
    @property
    def member(self) -> str | None: ...


class Grants:
    """All tenants'. What is not read yet, or cannot be, grants nothing."""

    def __init__(self, *, clock: Clock, tasks: Tasks, audit: Record, packages: Packages | None = None) -> None:
        self._clock = clock
        self._tasks = tasks
        self._audit = audit
        self.packages = packages
        self._books: dict[TenantId, list[Grant]] = {}
        self._locks: WeakValueDictionary[TenantId, asyncio.Lock] = WeakValueDictionary()
        self._decided: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()
        self._tenants: dict[TenantId, Tenant] = {}

    # --- asking ---

    async def ask(
        self,
        tenant: Tenant,
        *,
        kind: Kind,
        what: str,
        reason: str,
        agent: str,
        session_id: SessionId,
        member: str | None,
        request_id: RequestId,
        told: Callable[[str], None] = lambda _: None,
        wait: float = WAIT_SECONDS,
    ) -> Grant:
        """Ask, and wait some time for a decision; the request as it then stands. Asked again, it is the same one."""
        exact = _judged(kind, what)
        async with self._lock(tenant):
            book = await self._book(tenant)
            now = self._clock.now()
            grant = next(
                (
                    one
                    for one in book
                    if (one.kind, one.what) == (kind, exact)
                    and one.is_of(agent, session_id, member)
                    and one.state(now) in ("waiting", "granted")
                ),
                None,
            )
            if grant is None:
                if sum(one.decision is None for one in book) >= MOST_WAITING:
                    raise RateLimited(
                        f"{MOST_WAITING} requests for access wait for a decision already.", retry_after=WAIT_SECONDS
                    )
                grant = Grant(
                    id=new_id(), kind=kind, what=exact, reason=reason[:2000], agent=agent, session_id=session_id,
                    member=member, asked=now,
                )  # fmt: skip
                async with self._noted(tenant, grant, f"agent:{agent}", "grants.ask", request_id):
                    await self._keep(tenant, [*book, grant])
        if grant.decision is None:
            where = f"the {kind} {exact}{_aside(caution(grant))}"
            told(f"Access to {where} waits for a decision: `carrel grants decide {tenant.id} {grant.id} 1h`.")
            event = self._decided.setdefault(grant.id, asyncio.Event())
            try:
                async with asyncio.timeout(wait):
                    await event.wait()
            except TimeoutError:
                pass
        return next((one for one in await self._book(tenant) if one.id == grant.id), grant)

    def forget(self, tenant: TenantId) -> None:
        """Forget what is known of a tenant's, after its directory was replaced: it is read anew."""
        self._books.pop(tenant, None)
        self._tenants.pop(tenant, None)

    # --- deciding ---

    async def all(self, tenant: Tenant) -> list[Grant]:
        """All that are kept, oldest first; for a member who has sessions of their own, those of these alone."""
        async with self._lock(tenant):
            return [one for one in await self._book(tenant) if one.is_seen_by(tenant.own)]

    async def decide(
        self, snapshot: Snapshot, tenant: Tenant, grant_id: str, decision: Decision, *, by: Actor, operator: bool
    ) -> Grant:
        """Decide a request; a later decision replaces it, so that a grant can be taken back.

        Raises NotFound, and Forbidden where only the operator may allow that.
        """
        async with self._lock(tenant):
            book = await self._book(tenant)
            grant = next((one for one in book if one.id == grant_id and one.is_seen_by(tenant.own)), None)
            if grant is None:
                raise NotFound("There is no such request for access.")
            if decision != "deny" and not operator and not _may_be_opened(snapshot, grant):
                raise Forbidden(
                    f"Only the operator may allow the {grant.kind} {grant.what}: `_allowlists.yaml` does not offer it."
                )
            changed = grant.model_copy(
                update={"decision": decision, "decided": self._clock.now(), "decided_by": by.name, "used": None}
            )
            async with self._noted(tenant, changed, by.name, "grants.decide", by.request_id):
                if grant.kind == "package" and decision != "deny" and self.packages is not None:
                    await self.packages.add(snapshot, tenant, [grant.what], by=by)
                await self._keep(tenant, [changed if one.id == grant_id else one for one in book])
        event = self._decided.pop(grant_id, None)
        if event is not None:
            event.set()
        return changed

    # --- what is open ---

    def prepare(self, tenant: Tenant) -> None:
        """Begin to read a tenant's grants; until they are read there are none."""
        self._tenants[tenant.id] = tenant
        if tenant.id not in self._books:
            self._tasks.start(self._prepared(tenant), name="grants")

    def rules(self, askers: Sequence[Asker], asked: Asked, /) -> Sequence[Rule]:
        """The rules about ``asked`` that are granted to every one of ``askers``, each agent in its session."""
        now = self._clock.now()
        found = [self._about(asker, asked, now) for asker in askers]
        if not all(found):
            return ()
        used = False
        for asker, grants in zip(askers, found, strict=True):
            for place, grant in grants:
                if grant.decision == "once" and grant.used is None:
                    # Used up before anything else can ask; that it is so is on the disk a moment later.
                    self._books[asker.tenant_id][place] = grant.model_copy(update={"used": now})
                    used = True
        if used:
            self._tasks.start(self._written(askers[0].tenant_id), name="used grant")
        return [rule_of(grant.what) for grants in found for _, grant in grants]

    def opens(self, asker: Asker, asked: Asked, /) -> bool:
        """Whether ``asked`` is granted to that agent in its session; nothing is used up."""
        return bool(self._about(asker, asked, self._clock.now()))

    def _about(self, asker: Asker, asked: Asked, now: datetime) -> list[tuple[int, Grant]]:
        """The grants in force of one asker that are about ``asked``, with their places in the book."""
        return [
            (place, grant)
            for place, grant in enumerate(self._books.get(asker.tenant_id, ()))
            if grant.kind == "host" and grant.in_force(now)
            and grant.is_of(asker.agent, asker.session_id, asker.member) and rule_of(grant.what).names(asked)
        ]  # fmt: skip

    def tools(self, tenant: Tenant, agent: str, session_id: SessionId) -> tuple[str, ...]:
        """The tools that are granted to an agent in a session beside those that it has."""
        now = self._clock.now()
        return tuple(
            grant.what
            for grant in self._books.get(tenant.id, ())
            if grant.kind == "tool" and grant.is_of(agent, session_id, tenant.own) and grant.in_force(now)
        )

    # --- keeping ---

    def _lock(self, tenant: Tenant) -> asyncio.Lock:
        return self._locks.setdefault(tenant.id, asyncio.Lock())

    async def _book(self, tenant: Tenant) -> list[Grant]:
        known = self._books.get(tenant.id)
        if known is None:
            known = self._books[tenant.id] = await asyncio.to_thread(read, tenant)
        return known

    async def _keep(self, tenant: Tenant, grants: list[Grant]) -> None:
        now = self._clock.now()
        kept = await asyncio.to_thread(write, tenant, grants, now)
        # What was used up while it was being written stays so.
        used = {(one.id, one.decided): one.used for one in self._books.get(tenant.id, ()) if one.used is not None}
        self._books[tenant.id] = [
            one if one.used is not None else one.model_copy(update={"used": used.get((one.id, one.decided))})
            for one in kept
        ]

    async def _written(self, tenant_id: TenantId) -> None:
        """Write a tenant's grants down as they are in memory."""
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            return
        async with self._lock(tenant):
            try:
                await self._keep(tenant, await self._book(tenant))
            except CarrelError as error:
                _log.error("a used grant could not be written down", tenant=tenant_id, reason=error.message)

    async def _prepared(self, tenant: Tenant) -> None:
        async with self._lock(tenant):
            try:
                await self._book(tenant)
            except CarrelError as error:
                _log.error("nothing is granted", tenant=tenant.id, reason=error.message)

    def _noted(
        self, tenant: Tenant, grant: Grant, actor: str, action: str, request_id: str
    ) -> AbstractAsyncContextManager[None]:
        after: dict[str, object] = {
            "kind": grant.kind, "what": grant.what, "agent": grant.agent, "session_id": grant.session_id
        }  # fmt: skip
        if grant.member is not None:
            after["member"] = grant.member
        if grant.decision is not None:
            after["decision"] = grant.decision
        return self._audit.change(
            actor=actor, action=action, target=grant.id, tenant=tenant.id, request_id=request_id, after=after
        )


def caution(grant: Grant) -> str | None:
    """What whoever decides should know of what is asked for: that an address is private, and how."""
    host = rule_of(grant.what).host if grant.kind == "host" else None
    return address_refused(host.address) if host is not None and host.address is not None else None


def _judged(kind: Kind, what: str) -> str:
    """What is asked for in its one form; raises InvalidRequest."""
    if kind == "host":
        try:
            host, port = parsed(what.strip())
            wild, named = pattern(host)
        except ValueError as error:
            raise InvalidRequest(f"{what[:80]!r} is no host: {error}.", param="what") from None
        if wild or named is None:
            raise InvalidRequest("Ask for one host by its name, as `api.example.com` or `api.example.com:8443`.",
                                 param="what")  # fmt: skip
        shown = f"[{named}]" if ":" in named.name else named.name
        return f"{shown}:{port}"
    if kind == "tool" and what not in ALL_TOOLS:
        raise InvalidRequest(f"There is no tool {what[:80]!r}; there are {', '.join(ALL_TOOLS)}.", param="what")
    return what


def _aside(text: str | None) -> str:
    return f" ({text})" if text is not None else ""


def _may_be_opened(snapshot: Snapshot, grant: Grant) -> bool:
    """Whether a tenant's own people may allow it: what the operator's allowlists offer, and nothing else."""
    lists = snapshot.allowlists
    match grant.kind:
        case "package":
            return lists.packages.allows(grant.what)
        case "host":
            rule = rule_of(grant.what)
            port = next(iter(rule.ports))
            return rule.host is not None and any(
                offered.names(Asked(rule.host, port)) for offered in map(rule_of, lists.hosts.names)
            )
    return False
