"""One request on its way through: what is known of it so far, and who may do what with it."""

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from carrel.backup.target import Reach
from carrel.declare.admin_keys import AdminScope
from carrel.declare.problems import nearest
from carrel.errors import CarrelError, Forbidden, NotFound, RateLimited, TooLarge, Unauthorized, Unavailable
from carrel.http.auth import (
    Authenticator,
    Caller,
    OperatorCaller,
    TenantCaller,
    require_operator,
    require_served,
    require_tenant,
)
from carrel.http.body import parse_model, read_body, spool_body
from carrel.http.browser_sessions import BrowserSessions
from carrel.http.connection import EdgeRequest
from carrel.http.control_socket import peer_uid
from carrel.http.errors import Dialect
from carrel.http.live import Live
from carrel.http.origins import is_own
from carrel.http.services import Limits, Services
from carrel.ids import RequestId, TenantId, parse_tenant_id
from carrel.tasks import Tasks
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire.control import Actor

T = TypeVar("T")
COOKIE: Final = "__Host-carrel"
TICKET: Final = "carrel.ticket."
"""What the subprotocol that carries a ticket begins with."""
_SEARCHED: Final = 1000
M = TypeVar("M", bound=BaseModel)


@dataclass(slots=True)
class Exchange:
    """A request with its services. ``control`` is true on the control socket, whose peers were judged by their uid."""

    request: EdgeRequest
    request_id: RequestId
    services: Services
    limits: Limits
    authenticator: Authenticator
    tasks: Tasks
    live: Live
    browsers: BrowserSessions
    control: bool = False
    route: str = "unmatched"
    dialect: Dialect = "problem"
    caller: Caller | None = None
    tenant_id: TenantId | None = None
    _snapshot: Snapshot | None = None
    _body: bytes | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The one revision of everything declared that this request sees; raises Unavailable before there is any."""
        if self._snapshot is None:
            try:
                self._snapshot = self.services.directory.current
            except CarrelError as error:
                raise Unavailable(error.message) from error
        return self._snapshot

    @property
    def address(self) -> str:
        """Where the request comes from; headers that claim another place are not believed."""
        return self.request.remote or "-"

    def authenticate(self) -> Caller:
        """Who calls; raises Unauthorized or RateLimited."""
        if self.caller is None:
            if self.control and "Authorization" not in self.request.headers:
                uid = peer_uid(self.request)
                self.caller = OperatorCaller(f"uid:{uid}")
            elif self.ticket is not None:
                self.caller = self._by_ticket(self.ticket)
            else:
                self.caller = self.authenticator.caller(
                    self.request.headers, self.snapshot, address=self.address,
                    api_key_header=self.request.path.startswith(("/v1/messages", "/v1/models")),
                )  # fmt: skip
            if isinstance(self.caller, TenantCaller):
                self.tenant_id = self.caller.tenant.id
                self.request.soft_passed = partial(self.services.meter.soft_passed, self.tenant_id)
            self.live.caller = self.caller
        return self.caller

    @property
    def ticket(self) -> str | None:
        """The ticket that a page asks for a WebSocket with; None where there is none, or where a credential is."""
        headers = self.request.headers
        if self.route != "/ws" or "Authorization" in headers:
            return None
        offered = ",".join(headers.getall("Sec-WebSocket-Protocol", [])).split(",")
        return next((word.strip()[len(TICKET) :] for word in offered if word.strip().startswith(TICKET)), None)

    def require_own_page(self, *, needed: bool) -> None:
        """Raise Forbidden for a request of a page that is not the gateway's own; ``needed``: or of no page at all."""
        headers = self.request.headers
        origins = headers.getall("Origin", [])
        if not origins and not needed:
            return
        crosses = any(value not in ("same-origin", "none") for value in headers.getall("Sec-Fetch-Site", []))
        named = self.snapshot.gateway.browser.origins
        if crosses or not is_own(origins, headers.getall("Host", []), named):
            raise Forbidden(
                "A page of another origin may not do this. The gateway's own pages are served over https, or over http "
                "on its own machine; the operator can name other origins (`browser.origins`)."
            )

    def _by_ticket(self, ticket: str) -> Caller:
        session = self.browsers.redeem(ticket, self.request.cookies.get(COOKIE, ""))
        known = self.authenticator.known(session.credential, self.snapshot) if session is not None else None
        if session is None or known is None:
            wait = self.authenticator.failed(self.address)
            if wait is not None:
                raise RateLimited("Too many failed attempts from this address.", retry_after=wait)
            raise Unauthorized("This ticket is used up, too old, or not this browser's.")
        browsers = self.browsers
        self.live.is_over = lambda: browsers.is_over(session)
        return known

    def tenant(self, scope: str) -> TenantCaller:
        """The calling tenant, with ``scope``."""
        return require_tenant(self.authenticate(), scope)

    def tenant_with(self, *scopes: str) -> TenantCaller:
        """The calling tenant, with one of ``scopes``."""
        caller = self.authenticate()
        held = caller.record.scopes if isinstance(caller, TenantCaller) else ()
        return require_tenant(caller, next((scope for scope in scopes if scope in held), scopes[0]))

    def operator(self, scope: AdminScope) -> OperatorCaller:
        """The calling operator, with ``scope``."""
        return require_operator(self.authenticate(), scope)

    def subject(self) -> Tenant:
        """The tenant that the path names; raises NotFound, the same for what is no id at all."""
        return self.named(self.request.match_info["id"])

    def latest_subject(self) -> Tenant:
        """The tenant that the path names as it is by now, whatever this request has seen before; raises NotFound."""
        return self.services.directory.current.tenant(self.subject().id)

    def named(self, text: str) -> Tenant:
        """The tenant that is called ``text``, whom the request is about; raises NotFound, as for one of another's."""
        try:
            tenant = self.snapshot.tenant(parse_tenant_id(text))
        except CarrelError:
            raise NotFound(self._no_tenant(text)) from None
        if not self.sees(tenant.id):
            raise NotFound(self._no_tenant(text))
        self.tenant_id = tenant.id
        return tenant

    def _no_tenant(self, text: str) -> str:
        """The names of tenants are told to operators alone, and each is told those of its own."""
        tenants = self.snapshot.tenants
        told = isinstance(self.caller, OperatorCaller) and len(tenants) <= _SEARCHED
        close = nearest(text, [one for one in tenants if self.sees(one)]) if told else None
        return f"No such tenant; did you mean {close}?" if close else "No such tenant."

    def sees(self, tenant: TenantId) -> bool:
        """Whether ``tenant`` exists for who calls; an admin key may be limited to some."""
        return not isinstance(self.caller, OperatorCaller) or self.caller.sees(tenant)

    @property
    def reach(self) -> Reach:
        """How far whoever calls may reach with archives."""
        caller = self.authenticate()
        limited = isinstance(caller, OperatorCaller) and caller.tenants is not None
        return Reach(self.control, self.sees if limited else None)

    def own_subject(self) -> Tenant:
        """The path's tenant, which calls itself; for any other it does not exist."""
        own = self.tenant("rpc").tenant
        if self.request.match_info["id"] != own.id:
            raise NotFound("No such tenant.")
        return own

    def subject_or_self(self) -> Tenant:
        """The path's tenant, for an operator or that tenant itself."""
        return self.own_subject() if isinstance(self.authenticate(), TenantCaller) else self.subject()

    def active_subject(self) -> Tenant:
        """The path's tenant, to act for it; raises TenantSuspended or TenantNotReady."""
        tenant = self.subject()
        require_served(tenant, "resume it first", tenant.problem or "`carrel status` says what is wrong")
        return tenant

    @property
    def actor(self) -> Actor:
        """Who asks, as the audit log names it."""
        return Actor(self.authenticate().label, self.request_id)

    async def body(self, *, limit: int | None = None) -> bytes:
        """The body within ``limit`` bytes, the control plane's limit by default."""
        ceiling = self.limits.control_body_bytes if limit is None else limit
        if self._body is None:
            self._body = await read_body(self.request, limit=ceiling, limits=self.limits)
        elif len(self._body) > ceiling:
            raise TooLarge(f"The body is larger than {ceiling} bytes.")
        return self._body

    async def spool(self, path: Path) -> None:
        """The body into the new file ``path``, however long it is and takes, as long as it goes on coming."""
        await spool_body(self.request, path, limits=self.limits)

    async def model(self, kind: type[M], *, limit: int | None = None) -> M:
        """The body as ``kind``."""
        return parse_model(kind, await self.body(limit=limit))

    def change(self, action: str, target: str, tenant: Tenant) -> AbstractAsyncContextManager[None]:
        """Make a change of the tenant's within it: the audit log says who asked for it, and how it ended."""
        by = self.actor
        return self.services.audit.change(
            actor=by.name, action=action, target=target, request_id=by.request_id, tenant=tenant.id
        )  # fmt: skip

    async def finish(self, work: Coroutine[Any, Any, T], *, name: str) -> T:
        """Run a change to its end, also where the caller goes away meanwhile."""
        return await asyncio.shield(self.tasks.start(work, name=name))
