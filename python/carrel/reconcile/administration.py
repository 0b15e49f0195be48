"""What an operator does to tenants: the service behind the command line and the control plane.

What is declared is changed in tenants.d and committed; tokens are state. Every change has its line in the audit log,
with how it ended, before it is told of.
"""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Final, Protocol, TypeVar

from carrel.clock import Clock, SystemClock
from carrel.declare.quotas import Quotas
from carrel.errors import CarrelError, Conflict, Forbidden, InvalidRequest, NotFound, Unavailable
from carrel.ids import TenantId, parse_tenant_id
from carrel.reconcile.declarations import Declarations, Place, Settles
from carrel.reconcile.recorder import Recorder
from carrel.tenancy.handle import Directory, Tenant
from carrel.tenancy.tokens import DEFAULT_TOKEN, TokenRecord, TokenStore
from carrel.vcs.edits import DELETE
from carrel.wire import control

T = TypeVar("T")
_REMOVED: Final = "no longer declared; its data is kept"


class Removes(Settles, Protocol):
    """Brings into force what was written, and deletes what was removed."""

    async def purge(self, tenant: TenantId) -> None:
        """Delete a removed tenant now, after its final backup; raises Conflict, Unavailable."""
        ...


class Administration:
    """Acts for operators. Each method returns when its change is in force."""

    def __init__(
        self,
        *,
        directory: Directory,
        tokens: TokenStore,
        audit: Recorder,
        reconciler: Removes,
        tenants_dir: Path,
        place: Place | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._directory = directory
        self._tokens = tokens
        self._audit = audit
        self._reconciler = reconciler
        self._declarations = Declarations(tenants_dir=tenants_dir, reconciler=reconciler, place=place)
        self._token_lock = asyncio.Lock()

    # --- looking ---

    async def list(self) -> control.TenantList:
        """All tenants, by id."""
        tenants = self._directory.current.tenants
        return control.TenantList(tenants=tuple(self._view(tenants[key]) for key in sorted(tenants)))

    async def show(self, tenant_id: TenantId) -> control.TenantView:
        """One tenant."""
        return self._view(self._directory.current.tenant(tenant_id))

    async def plans(self) -> object:
        """The operator's plans as declared."""
        return self._directory.current.plans.model_dump(mode="json", exclude_unset=True)

    async def tokens(self, tenant_id: TenantId) -> control.TokenList:
        """A tenant's tokens, by prefix."""
        tenant = self._directory.current.tenant(tenant_id)
        infos = tuple(
            control.TokenInfo(
                name=r.name,
                prefix=r.prefix,
                scopes=tenant.allowed(r.scopes, r.member),
                expires=r.expires,
                created_at=r.created_at,
                source=r.source,
                member=r.member,
            )
            for r in self._tokens.list(tenant)
        )
        return control.TokenList(tenant=tenant_id, tokens=infos)

    # --- what is declared ---

    async def create(self, order: control.TenantCreate, *, by: control.Actor) -> control.TenantCreated:
        """Declare a tenant, and issue its first token unless told not to.

        Where its plan has a fee, that is owed from today on.
        """
        tenant_id = parse_tenant_id(order.id)
        values: dict[str, object] = {"display_name": order.display_name, "plan": order.plan}
        if order.packages is not None:
            values["packages"] = list(order.packages)
        if self._fee_of(order.plan):
            values["billed_from"] = self._clock.now().date().isoformat()

        async def create() -> str | None:
            return await self._declarations.create(tenant_id, values, by=by)

        commit = await self._recorded("tenants.create", tenant_id, by, create, after=values)
        token = None
        if order.issue_token:
            # A tenant that was removed and comes back has its old tokens: the one of this name is replaced.
            try:
                token = (await self.token_rotate(tenant_id, control.TokenRotate(), by=by)).token
            except CarrelError as error:
                error.message = (
                    f"{tenant_id} is declared, but has no token: `carrel tenants token rotate {tenant_id}` issues one. "
                    f"{error.message}"
                )
                raise
        return control.TenantCreated(tenant=await self.show(tenant_id), token=token, commit=commit)

    async def suspend(self, tenant_id: TenantId, *, by: control.Actor) -> control.TenantView:
        """Let nothing run for the tenant."""
        return await self._set_suspended(tenant_id, True, by)

    async def resume(self, tenant_id: TenantId, *, by: control.Actor) -> control.TenantView:
        """Let the tenant work again."""
        return await self._set_suspended(tenant_id, False, by)

    async def remove(self, tenant_id: TenantId, *, purge: bool, by: control.Actor) -> control.TenantRemoved:
        """Take the declaration away. The tenant is suspended, and its data kept for a while.

        With ``purge`` it is deleted at once, after its final backup; also that of one that was removed before.
        """
        tenant = self._directory.current.tenant(tenant_id)
        if tenant.config.protect:
            raise Forbidden(f"{tenant_id} is protected: take `protect: true` out of {tenant_id}.yaml first.")

        async def remove() -> str | None:
            return await self._declarations.remove(tenant_id, by=by)

        async def delete() -> None:
            await self._reconciler.purge(tenant_id)

        commit = None
        if not (purge and tenant.removed):
            commit = await self._recorded("tenants.remove", tenant_id, by, remove)
        if purge:
            await self._recorded("tenants.purge", tenant_id, by, delete)
        return control.TenantRemoved(id=tenant_id, data_kept=not purge, commit=commit)

    async def quota_update(
        self, tenant_id: TenantId, order: control.QuotaUpdate, *, by: control.Actor
    ) -> control.TenantView:
        """Change the quotas that ``order`` names; null takes one away."""
        tenant = self._directory.current.tenant(tenant_id)
        quotas = tenant.config.quotas
        changes = {name: _limit(quotas, name, getattr(order, name)) for name in sorted(order.model_fields_set)}
        before = quotas.model_dump(mode="json", include=set(changes))

        async def update() -> str | None:
            wanted: dict[tuple[str, ...], object] = {}
            for name, value in changes.items():
                if isinstance(value, dict):
                    # What was there may be a number: it makes way.
                    wanted["quotas", name] = DELETE
                    wanted |= {("quotas", name, key): limit for key, limit in value.items()}
                else:
                    wanted["quotas", name] = DELETE if value is None else value
            return await self._declarations.update(tenant_id, wanted, what="Change quotas of", by=by)

        after = order.model_dump(mode="json", exclude_unset=True)
        await self._recorded("tenants.quota", tenant_id, by, update, before=before, after=after)
        return await self.show(tenant_id)

    async def resize(
        self, tenant_id: TenantId, order: control.TenantResize, *, by: control.Actor
    ) -> control.TenantView:
        """Put the tenant on another plan, or change what its sandbox has; null takes the tenant's own limit away.

        Where the new plan has a fee and the one before had none, that is owed from today on, or from the later day
        that the tenant is billed from.
        """
        tenant = self._directory.current.tenant(tenant_id)
        changes: dict[tuple[str, ...], object] = {}
        before: dict[str, object] = {}
        for name in sorted(order.model_fields_set):
            value = getattr(order, name)
            changes[("plan",) if name == "plan" else ("sandbox", name)] = DELETE if value is None else value
            before[name] = getattr(tenant.config if name == "plan" else tenant.config.sandbox, name)
        if not changes:
            raise InvalidRequest("There is nothing to change: name a plan, or a limit of the sandbox.")
        if ("plan",) in changes and self._fee_of(order.plan) and not self._fee_of(tenant.config.plan):
            today = self._clock.now().date()
            changes["billed_from",] = max(today, tenant.config.billed_from or today).isoformat()

        async def update() -> str | None:
            return await self._declarations.update(tenant_id, changes, what="Resize", by=by)

        after = order.model_dump(mode="json", exclude_unset=True)
        await self._recorded("tenants.resize", tenant_id, by, update, before=before, after=after)
        return await self.show(tenant_id)

    def _fee_of(self, plan: str | None) -> Decimal:
        declared = self._directory.current.plans.plans.get(plan or "")
        return declared.billing.platform_fee_usd if declared is not None else Decimal(0)

    async def _set_suspended(self, tenant_id: TenantId, value: bool, by: control.Actor) -> control.TenantView:
        tenant = self._directory.current.tenant(tenant_id)
        if tenant.removed:
            raise Conflict(f"{tenant_id}.yaml is not in tenants.d: put it back to resume the tenant.")

        async def change() -> str | None:
            what = "Suspend" if value else "Resume"
            return await self._declarations.update(tenant_id, {("suspended",): value}, what=what, by=by)

        action = "tenants.suspend" if value else "tenants.resume"
        await self._recorded(action, tenant_id, by, change, before=tenant.suspended, after=value)
        return await self.show(tenant_id)

    # --- tokens ---

    async def token_issue(
        self, tenant_id: TenantId, order: control.TokenIssue, *, by: control.Actor
    ) -> control.TokenIssued:
        """A new token, told once."""
        tenant = self._directory.current.tenant(tenant_id)
        person = tenant.as_member(order.member)
        scopes = person.allowed(order.scopes, order.member)
        over = [scope for scope in order.scopes if scope not in scopes]
        if over and "scopes" in order.model_fields_set:
            raise InvalidRequest(
                f"{order.member} is a {person.role}, whose tokens do not get the scope {' or '.join(over)}: leave it "
                f"out, or change the role in {tenant_id}.yaml.",
                param="scopes",
            )

        async def issue() -> tuple[str, TokenRecord]:
            return await asyncio.to_thread(
                self._tokens.issue, tenant, name=order.name, scopes=scopes, expires=order.expires, member=order.member
            )

        return await self._token("tokens.issue", tenant, order.name, by, issue, member=order.member)

    async def token_rotate(
        self, tenant_id: TenantId, order: control.TokenRotate, *, by: control.Actor, member: str | None = None
    ) -> control.TokenIssued:
        """A new secret for a token; the old one ends now. ``member`` may rotate tokens of their own alone."""
        tenant = self._directory.current.tenant(tenant_id)
        name = order.name or DEFAULT_TOKEN
        if member is not None and not any(r.name == name and r.member == member for r in self._tokens.list(tenant)):
            raise NotFound(f"There is no token {name!r}.")

        async def rotate() -> tuple[str, TokenRecord]:
            return await asyncio.to_thread(self._tokens.rotate, tenant, name=name)

        return await self._token("tokens.rotate", tenant, name, by, rotate)

    async def token_revoke(self, tenant_id: TenantId, name: str, *, by: control.Actor) -> None:
        """End a token now."""
        tenant = self._directory.current.tenant(tenant_id)

        async def revoke() -> TokenRecord:
            return await asyncio.to_thread(self._tokens.revoke, tenant, name)

        async with self._token_lock:
            await self._recorded("tokens.revoke", tenant_id, by, revoke, target=f"{tenant_id}/{name}")

    async def _token(
        self,
        action: str,
        tenant: Tenant,
        name: str,
        by: control.Actor,
        work: Callable[[], Awaitable[tuple[str, TokenRecord]]],
        *,
        member: str | None = None,
    ) -> control.TokenIssued:
        after = {"member": member} if member is not None else None
        async with self._token_lock:
            text, record = await self._recorded(action, tenant.id, by, work, target=f"{tenant.id}/{name}", after=after)
        return control.TokenIssued(
            tenant=tenant.id,
            name=record.name,
            token=text,
            prefix=record.prefix,
            scopes=record.scopes,
            expires=record.expires,
            member=record.member,
        )

    # --- both ---

    async def _recorded(
        self,
        action: str,
        tenant_id: TenantId,
        by: control.Actor,
        work: Callable[[], Awaitable[T]],
        *,
        target: str | None = None,
        before: object = None,
        after: object = None,
    ) -> T:
        """Do ``work``; its line says how it ended."""
        async with self._audit.change(
            actor=by.name, action=action, target=target or tenant_id, tenant=tenant_id, request_id=by.request_id,
            before=before, after=after,
        ):  # fmt: skip
            try:
                return await work()
            except TimeoutError:
                raise Unavailable("It is declared, and was not in force in time: see `carrel status`.") from None

    def _view(self, tenant: Tenant) -> control.TenantView:
        config = tenant.config
        return control.TenantView(
            id=tenant.id,
            display_name=config.display_name,
            plan=config.plan,
            state="broken" if tenant.problem else "suspended" if tenant.suspended else "active",
            revision=tenant.revision,
            problem=tenant.problem or (_REMOVED if tenant.removed else None),
            agents=tuple(sorted({"main", *config.agents})),
            file=None if tenant.removed else f"{tenant.id}.yaml",
            backed_up=config.backup.enabled and not tenant.removed,
        )


def _limit(quotas: Quotas, name: str, value: control.HardAndSoft | control.SoftOnly | int | Decimal | None) -> object:
    """What to declare: a bare number leaves a soft limit that it does not pass."""
    if value is None:
        return None
    if isinstance(value, control.HardAndSoft | control.SoftOnly):
        return value.model_dump(exclude_none=True)
    known = quotas.money(name) if name.startswith("cost_") else quotas.count(name)
    return value if known.soft is None or known.soft >= value else {"hard": value, "soft": known.soft}
