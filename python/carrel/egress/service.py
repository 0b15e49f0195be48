"""Egress: a gate for each sandbox, and what all gates share."""

import asyncio
import hmac
import secrets as randomness
import socket
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
import structlog
from aiohttp import web

from carrel.clock import Clock
from carrel.declare.egress import HTTP, HTTPS, connection_in
from carrel.egress.clients import Clients
from carrel.egress.door import Door
from carrel.egress.front import USER, Front, Over
from carrel.egress.placeholders import Binding, bindings_of, placeholder
from carrel.egress.resolve import Dialler
from carrel.egress.terminate import end_tls
from carrel.egress.visitor import Grants, Record, Standing, Visitor
from carrel.errors import CarrelError
from carrel.ids import RequestId, SessionId, TenantId
from carrel.policy.egress.addresses import Network
from carrel.policy.egress.rules import Asked, Decision, Rules, compiled
from carrel.sandbox.protocol import GATE_PORT, EgressGate
from carrel.secrets import Secret, SecretMissing
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Directory, Tenant

if TYPE_CHECKING:
    from carrel.egress.authority import Authority

CERTIFICATES: Final = "ssl/certs/ca-certificates.crt"
CONNECTIONS: Final = 256
CONNECTIONS_OF_TENANT: Final = 1024
SAY_AGAIN_SECONDS: Final = 60.0
LINES_A_MINUTE: Final = 30
_MOST_TENANTS: Final = 1024
VISITORS: Final = 64
"""Sessions whose programs may run behind one gate; where there are more, nothing is granted to any."""
_MODEL_RULE: Final = "model provider"
_OWN_RULE: Final = "the gateway itself"
OWN_HOST: Final = "carrel.internal"
"""Where sandboxes find what the gateway serves to them: a name of a domain that is nobody's."""
MCP_VARIABLE: Final = "CARREL_MCP_URL"
_NOT_ALONE: Final = (
    "it was granted to this session, and programs of other sessions run in this kept sandbox: it opens when these have "
    "ended, or when it is granted to them too"
)
_BUNDLE_VARIABLES: Final = (
    "SSL_CERT_FILE", "NIX_SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO", "PIP_CERT", "AWS_CA_BUNDLE", "CARGO_HTTP_CAINFO", "DENO_CERT", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
)  # fmt: skip
_log = structlog.get_logger(__name__)


class Secrets(Protocol):
    """A tenant's secrets by name."""

    async def get(self, tenant: Tenant, name: str, /) -> Secret:
        """The secret that ``tenant`` means by ``name``; raises SecretMissing."""
        ...


class Connections(Protocol):
    """Accounts that people have connected."""

    async def token(self, tenant: Tenant, name: str, /, *, provider: str) -> Secret:
        """The token of a connection with ``provider``, good for a while yet; raises CarrelError."""
        ...


class Own(Protocol):
    """What the gateway itself serves to sandboxes, at a host of its own."""

    async def call(self, request: web.BaseRequest, standing: Standing, visitor: Visitor, /) -> web.StreamResponse:
        """Answer a request there."""
        ...


class Models(Protocol):
    """The providers of models, at the addresses where programs look for them."""

    def variables(self, tenant: Tenant, /) -> Mapping[str, str]:
        """The variables that programs read a key from, each with the name that its placeholder is made of."""
        ...

    def serves(self, asked: Asked, /) -> bool:
        """Whether a provider's API is there."""
        ...

    async def call(
        self, request: web.BaseRequest, standing: Standing, visitor: Visitor, marks: Mapping[str, str], /
    ) -> web.StreamResponse:
        """Answer a request of that API, metered; ``marks`` are the placeholders by variable."""
        ...


class Egress:
    """Makes gates. ``key`` is what placeholders are made with; ``tls`` is how hosts are trusted."""

    def __init__(
        self,
        *,
        directory: Directory,
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
        audit: Record,
        secrets: Secrets,
        key: bytes,
        dialler: Dialler | None = None,
        grants: Grants | None = None,
        models: Models | None = None,
        connections: Connections | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.directory = directory
        self.clock = clock
        self.tasks = tasks
        self.metrics = metrics
        self.secrets = secrets
        self.key = key
        self.dialler = dialler or Dialler(clock=clock)
        self.grants = grants
        self.models = models
        self.connections = connections
        self.own: Own | None = None
        self._audit = audit
        self._tls = tls
        self._rules: OrderedDict[TenantId, tuple[str, object, Rules]] = OrderedDict()
        self._authorities: OrderedDict[TenantId, Authority] = OrderedDict()
        self._clients = Clients(self.dialler)
        self._connections: dict[TenantId, int] = {}
        self._said: OrderedDict[tuple[TenantId, str], float] = OrderedDict()
        self._prepared = False
        self._lines: dict[TenantId, tuple[float, int, int]] = {}

    def gate(
        self,
        tenant: Tenant,
        *,
        agent: str,
        session_id: SessionId | None = None,
        member: str | None = None,
        request_id: RequestId | None = None,
    ) -> "Gate":
        """A gate for one sandbox of ``tenant``. It costs nothing until it serves."""
        if self.grants is not None:
            self.grants.prepare(tenant)
        return Gate(self, tenant, Visitor(tenant.id, agent, session_id, member, request_id))

    async def close(self) -> None:
        """Give connections back."""
        await self._clients.close()

    # --- what gates share ---

    def standing(self, tenant_id: TenantId) -> Standing | None:
        """The tenant as it is declared now, None where nothing may be done for it."""
        snapshot = self.directory.current
        tenant = snapshot.tenants.get(tenant_id)
        if tenant is None or tenant.suspended or not tenant.ready:
            return None
        return Standing(tenant, snapshot)

    def rules(self, standing: Standing) -> Rules:
        """The rules of a tenant, made ready once for each of its revisions."""
        tenant, lists = standing.tenant, standing.snapshot.allowlists
        known = self._rules.get(tenant.id)
        if known is not None and known[0] == tenant.revision and known[1] is lists:
            return known[2]
        made = compiled(tenant.config.egress, lists)
        self._rules[tenant.id] = (tenant.revision, lists, made)
        self._rules.move_to_end(tenant.id)
        while len(self._rules) > _MOST_TENANTS:
            self._rules.popitem(last=False)
        return made

    def authority(self, tenant_id: TenantId) -> "Authority":
        """The tenant's certificate authority."""
        from carrel.egress.authority import Authority  # noqa: PLC0415 - loaded by `prepare`, off the loop

        known = self._authorities.get(tenant_id)
        if known is None:
            known = self._authorities[tenant_id] = Authority(tenant_id, self.clock)
        return known

    async def prepare(self) -> None:
        """Load what certificates are made with: megabytes that a gateway does without until a sandbox is started."""
        if not self._prepared:
            await asyncio.to_thread(_load_authority)
            self._prepared = True

    def tls(self) -> ssl.SSLContext:
        """How hosts are trusted."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def client(
        self, tenant_id: TenantId, permitted: tuple[Network, ...]
    ) -> AbstractAsyncContextManager[aiohttp.ClientSession]:
        """The HTTP client of one tenant's, whose connections nobody else uses, for as long as this is entered."""
        return self._clients.client(tenant_id, permitted)

    def count(self, tenant_id: TenantId, change: int) -> bool:
        """Count a connection; False where the tenant has as many as it may."""
        now = self._connections.get(tenant_id, 0) + change
        if change > 0 and now > CONNECTIONS_OF_TENANT:
            return False
        if now > 0:
            self._connections[tenant_id] = now
        else:
            self._connections.pop(tenant_id, None)
        return True

    def refused(self, visitor: Visitor, asked: Asked, decision: Decision) -> None:
        """Put a refusal into the audit log: the same one once a minute, and so many in a minute in all."""
        now = self.clock.monotonic()
        key = (visitor.tenant_id, str(asked))
        if self._said.get(key, 0.0) > now:
            return
        began, lines, unsaid = self._lines.get(visitor.tenant_id, (now, 0, 0))
        if now - began > SAY_AGAIN_SECONDS:
            began, lines = now, 0
        if lines >= LINES_A_MINUTE:
            self._lines[visitor.tenant_id] = (began, lines, unsaid + 1)
            return
        self._lines[visitor.tenant_id] = (began, lines + 1, 0)
        self._said[key] = now + SAY_AGAIN_SECONDS
        while len(self._said) > _MOST_TENANTS:
            self._said.popitem(last=False)
        self.tasks.start(self._record(visitor, asked, decision, unsaid), name="refusal")

    async def _record(self, visitor: Visitor, asked: Asked, decision: Decision, unsaid: int) -> None:
        after: dict[str, object] = {"agent": visitor.agent, "reason": decision.reason}
        if visitor.session_id is not None:
            after["session_id"] = visitor.session_id
        if visitor.member is not None:
            after["member"] = visitor.member
        if decision.rule:
            after["rule"] = decision.rule
        if unsaid:
            after["not_recorded_before"] = unsaid
        try:
            await self._audit.record(
                actor=f"sandbox:{visitor.tenant_id}", action="egress.refused", target=str(asked),
                tenant=visitor.tenant_id, request_id=visitor.request_id or "-", outcome="denied", after=after,
            )  # fmt: skip
        except CarrelError as error:
            _log.warning("a refusal could not be recorded", tenant=visitor.tenant_id, reason=error.message)


class Gate:
    """The way out of one sandbox; see `sandbox.protocol.EgressGate`.

    In a kept sandbox the gate of its start serves for all who come later. Each of them has a password of its own in its
    environment, and what comes with that is theirs: noted, metered and judged for them, whoever came last.
    """

    def __init__(self, egress: Egress, tenant: Tenant, visitor: Visitor) -> None:
        self._egress = egress
        self._tenant = tenant
        self.visitor = visitor
        self._present = {visitor.place: visitor}
        self._password = randomness.token_urlsafe(24)
        self._home = self
        self._seats: OrderedDict[tuple[str, SessionId | None, str | None], Gate] = OrderedDict({visitor.place: self})
        self._open: set[Front] = set()
        self._door: Door | None = None
        self.dialler = egress.dialler

    # --- as the sandbox sees it ---

    @property
    def env(self) -> Mapping[str, str]:
        """The proxy's variables, those that name the certificates, and the placeholders."""
        proxy = f"http://{USER}:{self._password}@127.0.0.1:{GATE_PORT}"
        here = "localhost,127.0.0.1,::1"
        variables = {
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy),
            **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), proxy),
            "NO_PROXY": here, "no_proxy": here, "NODE_USE_ENV_PROXY": "1", "SSL_CERT_DIR": "/etc/ssl/certs",
            **dict.fromkeys(_BUNDLE_VARIABLES, f"/etc/{CERTIFICATES}"),
        }  # fmt: skip
        variables |= self._model_marks(self._tenant)
        if self._tenant.config.mcp_servers and self._egress.own is not None:
            variables[MCP_VARIABLE] = f"https://{OWN_HOST}/mcp"
        for binding in self._bindings_of(self._tenant):
            variables[binding.declared.env] = binding.text
        return variables

    async def prepare(self) -> None:
        """See `sandbox.protocol.EgressGate`."""
        await self._egress.prepare()

    @property
    def files(self) -> Mapping[str, bytes]:
        """The public authorities with the tenant's own among them."""
        from carrel.egress.authority import public_roots  # noqa: PLC0415 - loaded by `prepare`, off the loop

        return {CERTIFICATES: public_roots() + self._egress.authority(self.visitor.tenant_id).certificate}

    def follow(self, other: EgressGate, /, *, alone: bool) -> None:
        """See `EgressGate.follow`."""
        if not isinstance(other, Gate):
            return
        place = other.visitor.place
        if alone:
            self._present.clear()
        if len(self._present) <= VISITORS:
            self._present[place] = other.visitor
        known = self._seats.pop(place, None)
        if known is not None and known is not other:
            # What the place's earlier commands have left goes on with what they know.
            other._password = known._password  # noqa: SLF001 - another one of these
        other._home = self  # noqa: SLF001 - as above
        self._seats[place] = other
        while len(self._seats) > VISITORS:
            self._seats.popitem(last=False)

    async def serve(self, listener: socket.socket) -> None:
        """See `EgressGate.serve`."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        server = await loop.create_server(lambda: Front(self), sock=listener)
        try:
            await loop.create_future()
        finally:
            server.close()
            for front in list(self._open):
                front.abort()
            for seat in {self, *self._seats.values()}:
                await seat.leave()

    async def leave(self) -> None:
        """End what is answered for this one."""
        if self._door is not None:
            await self._door.close()

    # --- as its connections see it ---

    def seat(self, password: str) -> "Gate | None":
        """See `front.Seats`."""
        said, found = password.encode("utf-8", "replace"), None
        for one in self._home._seats.values():  # noqa: SLF001 - another one of these
            if hmac.compare_digest(said, one._password.encode()):  # noqa: SLF001 - as above
                found = one
        return found

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """See `door.Gatekeeper`."""
        return await self._http().answer(request)

    def decide(self, asked: Asked) -> Decision:
        """See `front.Way`."""
        decision = self._judged(asked)
        if not decision.allowed:
            self.note("denied")
            self._egress.refused(self.visitor, asked, decision)
        return decision

    def _judged(self, asked: Asked) -> Decision:
        standing = self._egress.standing(self.visitor.tenant_id)
        if standing is None:
            return Decision(False, "", "its tenant is suspended")
        if self.is_model_host(asked):
            return Decision(True, _MODEL_RULE, "", looks_in=True)
        if self.is_own_host(asked):
            return Decision(True, _OWN_RULE, "", looks_in=True, tls=asked.port != HTTP)
        rules, grants = self._egress.rules(standing), self._egress.grants
        if grants is None:
            return rules.decide(asked)
        # Whoever runs in a kept sandbox goes out by this gate: what one session was granted is no other's.
        present = tuple(self._home._present.values())  # noqa: SLF001 - another one of these
        decision = rules.decide(asked, granted=grants.rules(present, asked) if len(present) <= VISITORS else ())
        if not decision.allowed and len(present) > 1 and grants.opens(self.visitor, asked):
            return replace(decision, reason=f"{decision.reason}; {_NOT_ALONE}")
        return decision

    def looks_in(self, asked: Asked, decision: Decision) -> bool:
        """See `front.Way`."""
        if not decision.tls:
            return False
        return decision.looks_in or any(binding.is_for(asked) for binding in self.bindings())

    def bindings(self) -> tuple[Binding, ...]:
        """The secrets of this gate's agent, as they are declared now."""
        standing = self._egress.standing(self.visitor.tenant_id)
        return self._bindings_of(standing.tenant) if standing is not None else ()

    async def secrets(self, names: Iterable[str]) -> Mapping[str, Secret]:
        """Their values; raises SecretMissing, and what connections do."""
        standing = self._egress.standing(self.visitor.tenant_id)
        tenant = standing.tenant if standing is not None else self._tenant
        return {name: await self._secret(tenant, name) for name in names}

    async def _secret(self, tenant: Tenant, source: str) -> Secret:
        connection = connection_in(source)
        if connection is None:
            return await self._egress.secrets.get(tenant, source)
        if self._egress.connections is None:
            raise SecretMissing("No connections are kept here.")
        provider, name = connection
        return await self._egress.connections.token(tenant.as_member(self.visitor.member), name, provider=provider)

    def is_model_host(self, asked: Asked) -> bool:
        """Whether a provider's API is there."""
        return self._egress.models is not None and self._egress.models.serves(asked)

    def is_own_host(self, asked: Asked) -> bool:
        """Whether that is the gateway itself, which serves MCP there."""
        return self._egress.own is not None and asked.host.name == OWN_HOST and asked.port in (HTTP, HTTPS)

    async def own_call(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request to the gateway itself."""
        standing = self._egress.standing(self.visitor.tenant_id)
        if self._egress.own is None or standing is None:
            raise CarrelError("Nothing is served here.")
        return await self._egress.own.call(request, standing, self.visitor)

    async def model_call(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request of a provider's API."""
        standing = self._egress.standing(self.visitor.tenant_id)
        if self._egress.models is None or standing is None:
            raise CarrelError("No model is served here.")
        marks = self._model_marks(standing.tenant)
        return await self._egress.models.call(request, standing, self.visitor, marks)

    def client(self, permitted: tuple[Network, ...]) -> AbstractAsyncContextManager[aiohttp.ClientSession]:
        """See `door.Gatekeeper`."""
        return self._egress.client(self.visitor.tenant_id, permitted)

    def tls(self) -> ssl.SSLContext:
        """See `door.Gatekeeper`."""
        return self._egress.tls()

    def serve_http(self, transport: asyncio.Transport, first: bytes, target: Asked | None, over: Over, /) -> None:
        """See `front.Way`."""
        connection = self._http().connection(target=target, secure=False, over=over)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        connection.data_received(first)

    def serve_tls(self, transport: asyncio.Transport, first: bytes, target: Asked, over: Over, /) -> None:
        """See `front.Way`."""
        connection = self._http().connection(target=target, secure=True, over=over)
        end_tls(transport, first, self._egress.authority(self.visitor.tenant_id).context(target.host), connection)

    def opened(self, connection: Front) -> bool:
        """See `front.Way`."""
        present = self._home._open  # noqa: SLF001 - another one of these
        if len(present) >= CONNECTIONS or not self._egress.count(self.visitor.tenant_id, 1):
            self.note("too_many")
            return False
        present.add(connection)
        return True

    def closed(self, connection: Front) -> None:
        """See `front.Way`."""
        if connection in self._home._open:  # noqa: SLF001 - another one of these
            self._home._open.discard(connection)  # noqa: SLF001 - as above
            self._egress.count(self.visitor.tenant_id, -1)

    def note(self, outcome: str, sent: int = 0, received: int = 0) -> None:
        """See `front.Way`."""
        self._egress.metrics.egress(self.visitor.tenant_id, outcome=outcome, sent=sent, received=received)

    def run(self, work: Awaitable[None]) -> "asyncio.Task[None]":
        """See `front.Way`."""

        async def to_its_end() -> None:
            await work

        return self._egress.tasks.start(to_its_end(), name="connection")

    def _http(self) -> Door:
        if self._door is None:
            self._door = Door(self)
        return self._door

    def _bindings_of(self, tenant: Tenant) -> tuple[Binding, ...]:
        declared = tenant.config.egress.inject
        providers = self._egress.directory.current.gateway.oauth_providers if declared else {}
        return bindings_of(self._egress.key, tenant.id, self.visitor.agent, declared, providers)

    def _model_marks(self, tenant: Tenant) -> dict[str, str]:
        if self._egress.models is None:
            return {}
        return {
            variable: prefix + placeholder(self._egress.key, tenant.id, self.visitor.agent, f"\0{variable}")
            for variable, prefix in self._egress.models.variables(tenant).items()
        }


def _load_authority() -> None:
    # In a thread, for it brings `cryptography`; the module is then there for whoever imports it on the loop.
    import carrel.egress.authority  # noqa: F401, PLC0415 - loaded for what it leaves loaded
