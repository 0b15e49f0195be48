"""The way to an MCP server and back: who may, the credential put in outside, and its answer as it comes.

Nothing of the caller's own goes on but the protocol's fields and the message. Nothing of the server's comes back but
the protocol's: no cookie, no challenge to authenticate, no redirect, and never the credential.
"""

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final, Protocol

import aiohttp
from aiohttp import web

from carrel.declare.mcp import McpServer
from carrel.declare.oauth import place_of
from carrel.declare.problems import nearest
from carrel.errors import (
    CarrelError,
    Forbidden,
    InvalidRequest,
    NotFound,
    TooLarge,
    UpstreamAuth,
    UpstreamError,
    UpstreamTimeout,
)
from carrel.ids import RequestId, TenantId
from carrel.mcp.message import EVENTS, JSON, SESSION, Said, kind_of, passed_on, said
from carrel.mcp.sessions import SessionIds
from carrel.policy.egress.addresses import Network
from carrel.secrets import Secret
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire.scrub import Scrubber, decoder_of, forms_of

BODY_SECONDS: Final = 60.0
STANDING_SECONDS: Final = 24 * 3600.0
"""How long a standing stream (GET) may be quiet."""
QUIET_SECONDS: Final = 15.0
"""How long a stream is quiet before a comment is put into it."""
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_TAKEN: Final = "***"
_ANSWERED: Final = frozenset({400, 404, 405, 406, 409, 410, 413, 415, 422, 429})
"""Refusals of a server that are the protocol's own, and the caller's to understand."""


class Outside(Protocol):
    """HTTP on the gateway's own behalf, for one tenant, through the guard."""

    def request(
        self, tenant: TenantId, method: str, url: str, *, headers: Mapping[str, str], data: bytes | None = None,
        permitted: tuple[Network, ...] = (), stall_seconds: float,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:  # fmt: skip
        """The answer as it begins; raises AddressRefused, Unreachable, TimeoutError."""
        ...


class Secrets(Protocol):
    """A tenant's secrets by name."""

    async def get(self, tenant: Tenant, name: str, /) -> Secret: ...


class Connections(Protocol):
    """Accounts that people have connected."""

    async def token(self, tenant: Tenant, name: str, /, *, provider: str) -> Secret: ...


class Record(Protocol):
    """The audit log."""

    async def record(
        self, *, actor: str, action: str, target: str, request_id: str, outcome: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> None: ...  # fmt: skip


class Counted(Protocol):
    """Metrics."""

    def mcp(self, tenant: TenantId, *, server: str, outcome: str) -> None: ...


@dataclass(frozen=True, slots=True)
class McpCaller:
    """Who asks. ``agent`` is whose sandbox it is, None for a tenant's token."""

    tenant: Tenant
    snapshot: Snapshot
    actor: str
    request_id: RequestId
    agent: str | None = None


class McpProxy:
    """Passes MCP on. ``admits`` counts a request against the tenant's quotas."""

    def __init__(
        self, *, outside: Outside, secrets: Secrets, connections: Connections, audit: Record, metrics: Counted,
        admits: Callable[[Tenant], Awaitable[None]], key: bytes,
    ) -> None:  # fmt: skip
        self._outside = outside
        self._secrets = secrets
        self._connections = connections
        self._audit = audit
        self._metrics = metrics
        self._admits = admits
        self._ids = SessionIds(key)

    async def handle(self, request: web.BaseRequest, name: str, caller: McpCaller) -> web.StreamResponse:
        """The server's answer. Raises CarrelError before anything of it was sent; what breaks off later is cut off."""
        server = _server(caller, name)
        await self._admits(caller.tenant)
        try:
            answer = await self._passed(request, name, server, caller)
        except CarrelError as error:
            self._metrics.mcp(caller.tenant.id, server=name, outcome=error.code)
            raise
        self._metrics.mcp(caller.tenant.id, server=name, outcome="ok")
        return answer

    async def _passed(
        self, request: web.BaseRequest, name: str, server: McpServer, caller: McpCaller
    ) -> web.StreamResponse:
        headers = passed_on(request.headers.items())
        held = request.headers.getall(SESSION, [])
        if len(held) > 1:
            raise InvalidRequest(f"{SESSION} is there twice.")
        if held:
            headers[SESSION] = self._ids.theirs(caller.tenant, name, held[0])
        body: bytes | None = None
        messages: tuple[Said, ...] = (Said(request.method.lower()),)
        if request.method == "POST":
            body = await _body(request, server.max_message_bytes)
            messages = said(body)
            headers["Content-Type"] = JSON
        headers |= {
            "Accept": EVENTS if request.method == "GET" else f"{JSON}, {EVENTS}", "Accept-Encoding": "identity",
            "User-Agent": "carrel",
        }  # fmt: skip
        value, field = await self._credential(server, caller)
        headers |= field
        await self._note(name, caller, messages, request.method, "ok")
        try:
            return await self._asked(request, name, server, caller, _Asked(headers, body, value))
        except CarrelError as error:
            await self._note(name, caller, messages, request.method, f"failed: {error.code}")
            raise

    async def _credential(self, server: McpServer, caller: McpCaller) -> tuple[str | None, dict[str, str]]:
        """The value that must not come back, and the field that it goes out in."""
        if server.secret is not None:
            value = (await self._secrets.get(caller.tenant, server.secret)).reveal()
            return value, {server.header: _fit(server.template.replace("{}", value))}
        if server.connection is None:
            return None, {}
        named = server.provider or server.connection
        provider = caller.snapshot.gateway.oauth_providers.get(named)
        place = provider.place_for(*place_of(server.url)) if provider is not None else None
        if place is None:
            raise Forbidden("The connection's provider does not allow its token to be sent to this server.")
        value = (await self._connections.token(caller.tenant, server.connection, provider=named)).reveal()
        if place.basic is not None:
            pair = base64.b64encode(f"{place.basic}:{value}".encode()).decode()
            return value, {"Authorization": f"Basic {pair}"}
        return value, {place.header: _fit(place.template.replace("{}", value))}

    async def _asked(
        self, request: web.BaseRequest, name: str, server: McpServer, caller: McpCaller, asked: "_Asked"
    ) -> web.StreamResponse:
        standing = request.method == "GET"
        passage = self._outside.request(
            caller.tenant.id, request.method, server.url, headers=asked.headers, data=asked.body,
            permitted=tuple(ip_network(text) for text in server.addresses),
            stall_seconds=STANDING_SECONDS if standing else server.answer_seconds,
        )  # fmt: skip
        back: web.StreamResponse | None = None
        try:
            async with passage as answer:
                back = self._head(name, caller, answer, asked)
                if kind_of(answer.headers) == EVENTS:
                    await back.prepare(request)
                    await _events(answer, back, asked.scrubber(), server.max_message_bytes)
                else:
                    whole = await _whole(answer, asked.scrubber(), server.max_message_bytes)
                    back.headers["Content-Length"] = str(len(whole))
                    await back.prepare(request)
                    await back.write(whole)
                await back.write_eof()
                return back
        except (aiohttp.ClientError, TimeoutError, CarrelError) as error:
            if back is not None and back.prepared:
                # It has begun: whoever reads it learns by its missing end that it was cut.
                raise ConnectionResetError("the MCP server's answer broke off") from error
            if isinstance(error, TimeoutError):
                raise UpstreamTimeout("The MCP server did not answer in time.", retryable=True) from None
            if isinstance(error, aiohttp.ClientError):
                raise UpstreamError("The MCP server's answer broke off.", retryable=True) from error
            raise

    def _head(
        self, name: str, caller: McpCaller, answer: aiohttp.ClientResponse, asked: "_Asked"
    ) -> web.StreamResponse:
        """The beginning of the answer; raises where it is none that goes back."""
        status, kind = answer.status, kind_of(answer.headers)
        if status in (401, 403):
            raise UpstreamAuth("The MCP server refuses the credential that the gateway has for it.", status=status)
        if 300 <= status < 400:
            raise UpstreamError("The MCP server sends elsewhere, where nobody is followed.", status=status)
        if status not in (200, 202, 204) and status not in _ANSWERED:
            raise UpstreamError(f"The MCP server answered {status}.", status=status, retryable=status >= 500)
        if kind not in (JSON, EVENTS, "") and status == 200:
            raise UpstreamError("The MCP server answers what is neither JSON nor a stream of events.", status=status)
        headers = {"Cache-Control": "no-store"}
        if kind in (JSON, EVENTS):
            headers["Content-Type"] = kind
        theirs = answer.headers.getall(SESSION, [])
        if len(theirs) == 1:
            headers[SESSION] = self._ids.given(caller.tenant, name, theirs[0])
        return web.StreamResponse(status=status, headers=headers)

    async def _note(
        self, name: str, caller: McpCaller, messages: tuple[Said, ...], method: str, outcome: str
    ) -> None:  # fmt: skip
        told = [one for one in messages if one.is_change or method == "DELETE"]
        for one in told[:32]:
            after = {"method": one.method, "tool": one.tool, "agent": caller.agent, "member": caller.tenant.own}
            await self._audit.record(
                actor=caller.actor, action="mcp.call" if one.tool is not None else "mcp.session", target=name,
                tenant=caller.tenant.id, request_id=caller.request_id, outcome=outcome,
                after={key: value for key, value in after.items() if value is not None},
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request as it goes out. ``value`` is what must not come back."""

    headers: Mapping[str, str]
    body: bytes | None
    value: str | None

    def scrubber(self) -> Scrubber:
        forms = forms_of(self.value) if self.value else ()
        return Scrubber({form: _TAKEN.encode() for form in forms})


def _server(caller: McpCaller, name: str) -> McpServer:
    """The tenant's server of that name; raises NotFound."""
    servers = caller.tenant.config.mcp_servers
    server = servers.get(name)
    if server is None or (caller.agent is not None and server.agents and caller.agent not in server.agents):
        close = nearest(name, servers)
        hint = f"did you mean {close}?" if close and server is None else "the operator declares them (`mcp_servers`)."
        raise NotFound(f"There is no MCP server {name[:64]!r} here: {hint}")
    return server


def _fit(value: str) -> str:
    if any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in value):
        raise UpstreamAuth("The MCP server's credential holds a line break or another control character.")
    return value


async def _body(request: web.BaseRequest, limit: int) -> bytes:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InvalidRequest("Send the message without Content-Encoding.")
    if request.content_type != JSON:
        raise InvalidRequest(f"An MCP message is {JSON}.")
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.content.iter_any():
                size += len(piece)
                if size > limit:
                    raise TooLarge(f"A message to this server is {limit} bytes at most.")
                pieces.append(piece)
    except TimeoutError:
        raise InvalidRequest("The message did not come in time.") from None
    return b"".join(pieces)


async def _whole(answer: aiohttp.ClientResponse, scrubber: Scrubber, limit: int) -> bytes:
    decoder = decoder_of(answer.headers.getall("Content-Encoding", []))
    size, out = 0, []
    async for piece in answer.content.iter_any():
        for part in decoder.decoded(piece):
            size += len(part)
            if size > limit:
                raise UpstreamError(f"The MCP server's message is over {limit} bytes.")
            out.append(scrubber.feed(part))
    if size:
        out.append(scrubber.feed(decoder.rest()))
    return b"".join(out) + scrubber.finish()


async def _events(answer: aiohttp.ClientResponse, back: web.StreamResponse, scrubber: Scrubber, limit: int) -> None:
    """Events as they come, each bounded in size, and a comment where it is quiet; no faster than they are read."""
    decoder = decoder_of(answer.headers.getall("Content-Encoding", []))
    tail, since = b"", 0
    while True:
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                piece = await answer.content.readany()
        except aiohttp.ServerTimeoutError:
            raise
        except TimeoutError:
            if not since:
                # Between two events: who has gone is found out by it, and what stands between is kept awake.
                await back.write(b": \n\n")
            continue
        if not piece:
            break
        for part in decoder.decoded(piece):
            seen = tail + part
            ends = [end.end() for end in _EVENT_END.finditer(seen)]
            since = len(seen) - ends[-1] if ends else since + len(part)
            if since > limit:
                raise UpstreamError(f"The MCP server's message is over {limit} bytes.")
            tail = seen[-3:] if since else b""
            out = scrubber.feed(part)
            if out:
                await back.write(out)
    rest = scrubber.finish()
    if rest:
        await back.write(rest)
