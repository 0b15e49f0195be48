"""The short way of `POST /v1/chat/completions`: from the bytes of a plain request straight to the relay.

It only ever says yes. A request that it would refuse, or that is for an agent or for a provider of another dialect,
it does not take; the ordinary way says so, with the words and the counting that belong to it. From the admission on
both ways call the same services, and end in the same line of the log.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import structlog

from carrel.errors import CarrelError
from carrel.http.auth import Authenticator, TenantCaller, require_tenant
from carrel.http.connection import QUOTA_WARNING, EdgeProtocol
from carrel.http.errors import render, unexpected
from carrel.http.hosts import Hosts
from carrel.http.live import Live, LiveRequests
from carrel.http.plain import PlainHead
from carrel.http.request_log import RequestLog
from carrel.http.services import Services
from carrel.ids import RequestId, RequestIds
from carrel.policy.models import allowed
from carrel.policy.names import is_agent
from carrel.relay.answer import Answer, CallerGone
from carrel.relay.dialects.chat import ChatFields
from carrel.tasks import Tasks
from carrel.tenancy.handle import Snapshot, Tenant

_log = structlog.get_logger(__name__)
COMPLETIONS: Final = "/v1/chat/completions"
EVERY_ANSWER: Final = "X-Content-Type-Options: nosniff\r\n"


class Draining(Protocol):
    """Whether nothing new is taken."""

    def __call__(self) -> bool: ...


class ShortCaller:
    """A connection on the short way, as the relay's caller."""

    __slots__ = ("connection", "keeps", "soft_passed", "started")

    modern = True

    def __init__(self, connection: EdgeProtocol, soft_passed: Callable[[], Sequence[str]]) -> None:
        self.connection = connection
        self.soft_passed = soft_passed
        self.keeps = True
        self.started = False

    @property
    def paused(self) -> bool:
        return self.connection.writing_paused

    def lines(self) -> str:
        passed = self.soft_passed()
        return f"{EVERY_ANSWER}{QUOTA_WARNING}: {', '.join(passed)}\r\n" if passed else EVERY_ANSWER

    def put(self, data: bytes) -> None:
        transport = self.connection.transport
        if transport is None or transport.is_closing():
            self.keeps = False
            raise CallerGone
        self.started = True
        transport.write(data)

    async def drained(self) -> None:
        await self.connection._drain_helper()  # noqa: SLF001 - what aiohttp's own writer calls, and there is no other

    def abort(self) -> None:
        if self.connection.transport is not None:
            self.connection.transport.abort()


@dataclass(slots=True)
class _Taken:
    """A request on the short way."""

    to: ShortCaller
    request_id: RequestId
    tenant: Tenant
    snapshot: Snapshot
    caller: TenantCaller
    body: bytes
    fields: ChatFields
    trace_parent: str
    live: Live | None = None
    status: int = 499


class ShortChat:
    """Completions on the short way; see `connection.ShortWay`."""

    path = COMPLETIONS

    def __init__(
        self,
        services: Services,
        *,
        hosts: Hosts,
        authenticator: Authenticator,
        live: LiveRequests,
        tasks: Tasks,
        log: RequestLog,
        draining: Draining,
    ) -> None:
        self._services = services
        self._hosts = hosts
        self._authenticator = authenticator
        self._live = live
        self._tasks = tasks
        self._log = log
        self._draining = draining
        self._ids = RequestIds()

    def take(self, connection: EdgeProtocol, head: PlainHead, body: bytes) -> asyncio.Task[None] | None:
        """Begin to answer, where nothing speaks against it."""
        try:
            taken = self._judge(connection, head, body)
        except CarrelError:
            return None
        if taken is None:
            return None
        task = self._tasks.start((self._traced if self._services.traces.on else self._run)(taken), name="completion")
        connection.fresh = False
        taken.live = self._live.enter(taken.request_id, task, connection)
        taken.live.caller = taken.caller
        return task

    def _judge(self, connection: EdgeProtocol, head: PlainHead, body: bytes) -> _Taken | None:
        """The request where the short way is its way; None, or CarrelError, where the ordinary one is."""
        if self._draining():
            return None
        self._hosts.check([head.host])
        snapshot = self._services.directory.current
        caller = self._authenticator.known(head.credential, snapshot)
        if caller is None or head.length > snapshot.gateway.max_body_bytes:
            return None
        tenant_caller = require_tenant(caller, "chat")
        tenant = tenant_caller.tenant
        fields = ChatFields.read(body)
        if is_agent(fields.model) or fields.stores:
            return None
        allowed(snapshot, tenant, fields.model)
        model = snapshot.gateway.models[fields.model]
        provider = snapshot.gateway.providers.get(model.provider)
        if provider is None or provider.kind != "openai" or model.fallbacks:
            return None
        request_id = self._ids.of(head.request_id)
        to = ShortCaller(connection, partial(self._services.meter.soft_passed, tenant.id))
        return _Taken(to, request_id, tenant, snapshot, tenant_caller, body, fields, head.trace_parent)

    async def _traced(self, taken: _Taken) -> None:
        """`_run` within a span."""
        about = {"method": "POST", "route": COMPLETIONS, "tenant": taken.tenant.id}
        parent = taken.trace_parent
        with self._services.traces.request("request", parent=parent, request_id=taken.request_id, **about) as span:
            await self._run(taken)
            span.set(status=taken.status)

    async def _run(self, taken: _Taken) -> None:
        """Answer, with what came or with what went wrong, and note the end."""
        status = 499
        keeps = False
        to = taken.to
        try:
            try:
                await self._services.meter.admit_request(taken.tenant)
                answer = await self._services.relay.pass_on(
                    to, taken.tenant, taken.snapshot, taken.request_id, taken.body, fields=taken.fields
                )
                status = answer.status
            except CarrelError as error:
                status = self._refuse(taken, error)
            except Exception as error:  # noqa: BLE001 - the root of a request
                _log.error("request failed", request_id=taken.request_id, route=COMPLETIONS, exc_info=error)
                status = self._refuse(taken, unexpected(error, taken.request_id))
            if to.paused:
                with contextlib.suppress(ConnectionError):
                    await to.drained()
            keeps = to.keeps
        finally:
            taken.status = status
            if taken.live is not None:
                self._live.leave(taken.live)
                self._log.write(
                    taken.live, tenant=taken.tenant.id, method="POST", route=COMPLETIONS, status=status
                )  # fmt: skip
            to.connection.answered(keeps=keeps)

    def _refuse(self, taken: _Taken, error: CarrelError) -> int:
        to = taken.to
        if to.started:
            # The answer has begun: an end without its proper ending is all that can still be said.
            _log.warning("answer cut off", request_id=taken.request_id, code=error.code)
            to.keeps = False
            return 200
        response = render(error, dialect="openai", request_id=taken.request_id)
        body = response.body if isinstance(response.body, bytes) else b""
        answer = Answer(
            to, status=response.status, content_type=response.headers["Content-Type"], request_id=taken.request_id
        )
        more = "".join(
            f"{name}: {value}\r\n" for name, value in response.headers.items() if name not in _FRAMING
        )  # fmt: skip
        to.keeps = to.keeps and not self._draining()
        answer.begin(length=len(body), more=more)
        with contextlib.suppress(CallerGone):
            answer.finish(body)
        return response.status


_FRAMING: Final = frozenset({"Content-Type", "Content-Length"})
