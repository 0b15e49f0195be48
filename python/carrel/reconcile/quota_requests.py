"""Tenants ask for higher quotas, and the operator decides: what is approved is declared in the tenant's file.

A request is a small document of the tenant's state; its limit comes into force through git like every other change.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from carrel.clock import Clock
from carrel.declare.base import MOST_DOLLARS
from carrel.declare.quotas import MOST_COUNTED, Quotas
from carrel.errors import Conflict, InvalidRequest, NotFound, RateLimited
from carrel.events.hub import Hub
from carrel.ids import TenantId
from carrel.policy.pricing import plain
from carrel.reconcile.recorder import Recorder
from carrel.tenancy.documents import Documents
from carrel.tenancy.handle import Tenant
from carrel.wire.control import Actor, QuotaUpdate
from carrel.wire.quotas import QuotaDecision, QuotaName, QuotaRequestView, Reason

FILE: Final = "quota-requests.json"
MOST_WAITING: Final = 10
KEPT: Final = 200
WAIT_SECONDS: Final = 3600.0


class Request(BaseModel):
    """One request as it is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    id: str
    quota: QuotaName
    limit: str
    reason: Reason
    asked: datetime
    asked_by: str
    state: Literal["waiting", "approved", "rejected"] = "waiting"
    granted: str | None = None
    decided: datetime | None = None
    decided_by: str | None = None
    note: Reason = ""


class Requests(BaseModel):
    """All of a tenant's, oldest first."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    requests: Annotated[tuple[Request, ...], Field(max_length=2 * KEPT)] = ()


class Declares(Protocol):
    """Writes what is granted into the tenant's file."""

    async def quota_update(self, tenant_id: TenantId, order: QuotaUpdate, *, by: Actor) -> object:
        """Returns when it is in force."""
        ...


class QuotaRequests:
    """All tenants'."""

    def __init__(self, *, clock: Clock, audit: Recorder, declares: Declares, hub: Hub) -> None:
        self._clock = clock
        self._audit = audit
        self._declares = declares
        self._hub = hub
        self._kept = Documents(FILE, Requests)

    async def ask(
        self, tenant: Tenant, *, quota: QuotaName, limit: str, reason: str, by: Actor, request: str | None = None
    ) -> QuotaRequestView:
        """Ask for another hard limit. Raises InvalidRequest, Conflict where one waits, RateLimited for too many.

        ``request`` is the id to give it; the request of that id is told where there is one already.
        """
        _order(quota, limit)
        made = Request(
            id=request or f"qr_{os.urandom(12).hex()}", quota=quota, limit=limit, reason=reason,
            asked=self._clock.now(), asked_by=by.name,
        )  # fmt: skip

        def add(kept: Requests) -> Requests:
            if any(one.id == made.id for one in kept.requests):
                return kept
            waiting = [one for one in kept.requests if one.state == "waiting"]
            same = next((one for one in waiting if one.quota == quota), None)
            if same is not None:
                raise Conflict(
                    f"A request for {quota} waits already ({same.id}, {same.limit}): the operator decides it."
                )
            if len(waiting) >= MOST_WAITING:
                raise RateLimited(f"{len(waiting)} requests wait already.", retry_after=WAIT_SECONDS)
            decided = [one for one in kept.requests if one.state != "waiting"][-KEPT:]
            return Requests(requests=tuple(sorted((*decided, *waiting, made), key=lambda one: (one.asked, one.id))))

        before = await self._kept.read(tenant)
        if any(one.id == made.id for one in before.requests):
            return _view(tenant, _found(before, made.id))
        after = {"quota": quota, "limit": limit, "reason": reason}
        async with self._noted(tenant, "quota.ask", made.id, by, after):
            kept = await self._kept.change(tenant, add)
        asked = _found(kept, made.id)
        if asked == made:
            self._hub.publish(tenant, "quota.asked", {"id": made.id, "quota": quota, "limit": limit})
        return _view(tenant, asked)

    async def all(self, tenants: Iterable[Tenant]) -> Sequence[QuotaRequestView]:
        """The requests of ``tenants``."""
        return [one for tenant in tenants for one in await self.list(tenant)]

    async def list(self, tenant: Tenant) -> Sequence[QuotaRequestView]:
        """A tenant's requests, oldest first."""
        return [_view(tenant, one) for one in (await self._kept.read(tenant)).requests]

    async def decide(self, tenant: Tenant, request: str, order: QuotaDecision, *, by: Actor) -> QuotaRequestView:
        """Decide a request that waits; what is approved is in force when this returns.

        Raises NotFound, Conflict where it is decided already, and what stands in the way of the declaration.
        """
        asked = _found(await self._kept.read(tenant), request)
        granted = None
        if asked.state != "waiting":
            raise Conflict(f"That request is {asked.state} already.")
        if order.decision == "approve":
            granted = asked.limit if order.limit is None else plain(order.limit)
            wanted = _order(asked.quota, granted)
            await self._declares.quota_update(tenant.id, wanted, by=by)
        state: Literal["approved", "rejected"] = "approved" if order.decision == "approve" else "rejected"
        decided = asked.model_copy(
            update={
                "state": state, "granted": granted, "decided": self._clock.now(), "decided_by": by.name,
                "note": order.note,
            }
        )  # fmt: skip
        after = {"quota": asked.quota, "decision": order.decision, "limit": granted, "note": order.note}
        async with self._noted(tenant, "quota.decide", request, by, after):
            await self._kept.change(tenant, _replacing(decided))
        told = {"id": request, "quota": asked.quota, "state": state, "granted": granted, "note": order.note}
        self._hub.publish(tenant, "quota.decided", told)
        return _view(tenant, decided)

    def _noted(
        self, tenant: Tenant, action: str, target: str, by: Actor, after: object
    ) -> AbstractAsyncContextManager[None]:
        return self._audit.change(
            actor=by.name, action=action, target=target, tenant=tenant.id, request_id=by.request_id, after=after
        )


def _replacing(decided: Request) -> Callable[[Requests], Requests]:
    def change(kept: Requests) -> Requests:
        _found(kept, decided.id)
        return Requests(requests=tuple(decided if one.id == decided.id else one for one in kept.requests))

    return change


def _order(quota: str, limit: str) -> QuotaUpdate:
    """What declares ``limit``; raises InvalidRequest for one that nobody could declare."""
    value, money = Decimal(limit), quota.startswith("cost_")
    number = value if money or value != value.to_integral_value() else int(value)
    try:
        Quotas.model_validate({quota: number})
        return QuotaUpdate.model_validate({quota: number})
    except (ValidationError, ValueError) as error:
        most = f"US dollars, {MOST_DOLLARS} at most" if money else f"a whole number, {MOST_COUNTED} at most"
        raise InvalidRequest(f"{limit} is no limit of {quota}: it is {most}.", param="limit") from error


def _found(kept: Requests, request: str) -> Request:
    for one in kept.requests:
        if one.id == request:
            return one
    raise NotFound("There is no such request.")


def _view(tenant: Tenant, one: Request) -> QuotaRequestView:
    return QuotaRequestView.model_validate({"tenant": tenant.id, **one.model_dump()})
