"""Renewing tokens before they end: one at a time for each connection, and never with nothing left on the disk.

The vendor may give a new refresh token and take the old one back with the same answer. So what it gave is on the disk
before anybody uses it; what was there stays until then; and a renewal goes on to its end whoever waits for it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from carrel.clock import Clock
from carrel.connections.record import Connection, ConnectionUnusable, needs_relink
from carrel.connections.shelf import Shelf
from carrel.connections.vendor import Vendor
from carrel.declare.oauth import OAuthProvider
from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.tasks import Tasks
from carrel.tenancy.handle import Tenant
from carrel.wire import oauth

AGAIN_SECONDS: Final = 30.0
"""How long a vendor that failed is not asked for a new token again, while the old one is still good."""
_NOT_GOOD: Final = frozenset({"invalid_grant", "invalid_token", "bad_refresh_token", "invalid_refresh_token"})
"""What vendors say of a refresh token that is good no more."""
_KEEP_AGAIN: Final = (0.2, 1.0, 5.0, 10.0)
_log = structlog.get_logger(__name__)


class Counted(Protocol):
    """Metrics."""

    def connection(self, tenant: TenantId, *, provider: str, outcome: str) -> None: ...


class Renewal:
    """Renews tokens. ``lost`` is told of a connection that has to be linked again."""

    def __init__(
        self, *, shelf: Shelf, vendor: Vendor, clock: Clock, metrics: Counted, tasks: Tasks,
        lost: Callable[[Tenant, Connection], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._shelf = shelf
        self._vendor = vendor
        self._clock = clock
        self._metrics = metrics
        self._tasks = tasks
        self._lost = lost
        self._later: dict[tuple[TenantId, str | None, str], datetime] = {}

    def forget(self, tenant: Tenant, one: Connection) -> None:
        """Forget what is known of a connection that was removed."""
        self._later.pop(_key(tenant, one), None)

    async def renewed(self, tenant: Tenant, provider: OAuthProvider, found: Connection) -> Connection:
        """A connection with a good token: a new one, or the old one where the vendor fails and that is good yet.

        Raises ConnectionUnusable, and what `Vendor.refresh` does.
        """
        later, now = self._later.get(_key(tenant, found)), self._clock.now()
        if later is not None and now < later and not found.is_over(now):
            return found
        work = self._tasks.start(self._renewed(tenant, provider, found), name="renewal")
        try:
            return await asyncio.shield(work)
        except ConnectionUnusable:
            raise
        except CarrelError as error:
            if found.is_over(self._clock.now()):
                raise
            _log.warning("a token was not renewed", tenant=tenant.id, provider=found.provider, reason=error.message)
            return found

    async def _renewed(self, tenant: Tenant, provider: OAuthProvider, found: Connection) -> Connection:
        async with self._shelf.lock(tenant, found):
            held = await asyncio.to_thread(self._shelf.get, tenant, found.member, found.name)
            now = self._clock.now()
            if held is None:
                raise ConnectionUnusable(f"The connection {found.name!r} was removed.")
            if held.state == "needs_relink":
                raise needs_relink(held)
            if not held.is_due(now, provider.refresh_before_seconds):
                # Somebody who waited for it too has renewed it, or it was linked anew.
                return held
            if held.refresh is None:
                reason = "its token has ended, and the vendor gave none to renew it with"
                raise needs_relink(await self._given_up(tenant, held, reason))
            open_before = held.refreshing is not None
            held = held.model_copy(update={"refreshing": now})
            await asyncio.to_thread(self._shelf.put, tenant, held)
            answer = await self._asked(tenant, provider, held, open_before=open_before)
            renewed = _with(held, answer, self._clock.now())
            await self._keep(tenant, renewed)
            self._later.pop(_key(tenant, found), None)
        self._metrics.connection(tenant.id, provider=found.provider, outcome="renewed")
        return renewed

    async def _asked(
        self, tenant: Tenant, provider: OAuthProvider, held: Connection, *, open_before: bool
    ) -> oauth.TokenAnswer:
        try:
            return await self._vendor.refresh(tenant.id, provider, held.refresh or "")
        except CarrelError as error:
            self._metrics.connection(tenant.id, provider=held.provider, outcome=error.code)
            if isinstance(error, oauth.OAuthRefused) and error.error in _NOT_GOOD:
                before = "; the answer to an earlier renewal never arrived here" if open_before else ""
                reason = f"the vendor takes its refresh token no more ({error.error}){before}"
                raise needs_relink(await self._given_up(tenant, held, reason)) from error
            self._later[_key(tenant, held)] = self._clock.now() + timedelta(seconds=AGAIN_SECONDS)
            raise

    async def _keep(self, tenant: Tenant, renewed: Connection) -> None:
        """Put what the vendor gave on the disk, again and again where that is full: nothing else may be good by now."""
        for seconds in _KEEP_AGAIN:
            try:
                await asyncio.to_thread(self._shelf.put, tenant, renewed)
            except CarrelError as error:
                _log.error("a new token is not kept yet", tenant=tenant.id, reason=error.message)
                await self._clock.sleep(seconds)
            else:
                return
        await asyncio.to_thread(self._shelf.put, tenant, renewed)

    async def _given_up(self, tenant: Tenant, held: Connection, reason: str) -> Connection:
        lost = held.model_copy(update={"state": "needs_relink", "reason": reason, "refreshing": None})
        await asyncio.to_thread(self._shelf.put, tenant, lost)
        self._metrics.connection(tenant.id, provider=held.provider, outcome="needs_relink")
        await self._lost(tenant, lost)
        return lost


def end_of(answer: oauth.TokenAnswer, now: datetime) -> datetime | None:
    """When a token ends, None where the vendor does not say."""
    return None if answer.expires_in is None else now + timedelta(seconds=answer.expires_in)


def _with(held: Connection, answer: oauth.TokenAnswer, now: datetime) -> Connection:
    return held.model_copy(
        update={
            "access": answer.access_token, "refresh": answer.refresh_token or held.refresh, "refreshed": now,
            "refreshing": None, "expires": end_of(answer, now),
            "scopes": held.scopes if answer.scopes is None else answer.scopes,
        }
    )  # fmt: skip


def _key(tenant: Tenant, one: Connection) -> tuple[TenantId, str | None, str]:
    return tenant.id, one.member, one.name
