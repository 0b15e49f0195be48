"""HTTP at a gate: requests in clear or from inside of ended TLS, each judged and made anew for its host."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict
from yarl import URL

from carrel.declare.hosts import BadHost, Host, canonical
from carrel.egress.front import authorised
from carrel.egress.placeholders import (
    ANY,
    Binding,
    Outgoing,
    PlaceholderMisplaced,
    passing_of,
    swapped,
)
from carrel.egress.refusal import refusal_body
from carrel.egress.resolve import AddressRefused, Dialler, Unreachable
from carrel.egress.upgrade import is_websocket, upgraded
from carrel.errors import CarrelError, InvalidRequest, TooLarge, UpstreamError
from carrel.policy.egress.addresses import Network
from carrel.policy.egress.rules import Asked, Decision
from carrel.secrets import Secret
from carrel.wire.scrub import Scrubber, decoder_of, forms_of

HEAD_SECONDS: Final = 300.0
STALL_SECONDS: Final = 300.0
KEEP_SECONDS: Final = 60.0
BODY_BYTES: Final = 8 << 20
"""A body that a secret may go into is read whole; one longer than this is refused."""
PORTS: Final = {"http": 80, "https": 443}
HOP_BY_HOP: Final = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT", "SEARCH"}
)
_NO_LOG: Final = logging.getLogger("carrel.egress.none")
_NO_LOG.disabled = True


class Misdirected(InvalidRequest):
    """The request is for another host than the connection that it came on."""

    code = "misdirected"


class Denied(InvalidRequest):
    """No rule allows the request, or one denies it."""

    code = "egress_denied"

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


class Gatekeeper(Protocol):
    """What the door asks of its gate."""

    dialler: Dialler

    def seat(self, password: str) -> "Gatekeeper | None": ...
    async def answer(self, request: web.BaseRequest) -> web.StreamResponse: ...
    def decide(self, asked: Asked) -> Decision: ...
    def bindings(self) -> tuple[Binding, ...]: ...
    async def secrets(self, names: Iterable[str]) -> Mapping[str, Secret]: ...
    def is_model_host(self, asked: Asked) -> bool: ...
    async def model_call(self, request: web.BaseRequest) -> web.StreamResponse: ...
    def is_own_host(self, asked: Asked) -> bool: ...
    async def own_call(self, request: web.BaseRequest) -> web.StreamResponse: ...
    def client(self, permitted: tuple[Network, ...]) -> AbstractAsyncContextManager[aiohttp.ClientSession]: ...
    def tls(self) -> ssl.SSLContext: ...
    def note(self, outcome: str, sent: int = 0, received: int = 0) -> None: ...


class Connection(RequestHandler):
    """One connection. ``target`` is what it was opened to, None where each request names its own."""

    __slots__ = ("over", "secure", "target")

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server, loop=loop, access_log=_NO_LOG, keepalive_timeout=KEEP_SECONDS, auto_decompress=False,
            max_line_size=64 << 10, max_field_size=64 << 10, lingering_time=5.0,
        )  # fmt: skip
        self.target: Asked | None = None
        self.secure = False
        self.over: Callable[[], None] = lambda: None

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.over()


class DoorRequest(web.BaseRequest):
    """A request whose answer gets no field but those that its host gave."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        if isinstance(response, Passed):
            for name in ("Server", "Content-Type", "Date"):
                if name not in response.given:
                    response.headers.popall(name, None)


class Passed(web.StreamResponse):
    """An answer as its host gave it."""

    def __init__(self, status: int, reason: str | None, headers: "CIMultiDict[str]") -> None:
        super().__init__(status=status, reason=reason, headers=headers)
        self.given = frozenset(name.title() for name in headers)


@dataclass(slots=True)
class _Passage:
    """A request that was let through."""

    asked: Asked
    decision: Decision
    url: URL
    outgoing: Outgoing
    secure: bool
    bound: tuple[tuple[bytes, str], ...]
    """What must not come back: the placeholder and the value of every secret that this host is bound to."""

    def scrubber(self, *, same_length: bool = False) -> Scrubber:
        """What takes them out of an answer; ``same_length`` where its framing counts bytes."""
        return Scrubber({
            form: b"*" * len(form) if same_length else mark for mark, value in self.bound for form in forms_of(value)
        })  # fmt: skip


class Door:
    """The HTTP side of one gate."""

    def __init__(self, keeper: Gatekeeper) -> None:
        self._keeper = keeper
        self._loop = asyncio.get_running_loop()
        self._server = web.Server(
            self.answer,
            request_factory=lambda message, payload, protocol, writer, task: DoorRequest(
                message, payload, protocol, writer, task, self._loop
            ),
            handler_cancellation=True,
        )

    def connection(self, *, target: Asked | None, secure: bool, over: Callable[[], None]) -> Connection:
        """A protocol for one connection; ``over`` is called when it is lost."""
        made = Connection(self._server, self._loop)
        made.target, made.secure, made.over = target, secure, over
        return made

    async def close(self) -> None:
        """End every connection."""
        await self._server.shutdown(1.0)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to one request, by whoever of this gate it has the password of."""
        connection = cast(Connection, request.protocol)
        if connection.target is None:
            seat = self._seat(request)
            if seat is not None and seat is not self._keeper:
                return await seat.answer(request)
        asked: Asked | None = None
        try:
            asked, path = self._asked(request, connection)
            if connection.secure and self._keeper.is_model_host(asked):
                self._keeper.note("model")
                return await self._keeper.model_call(request)
            if self._keeper.is_own_host(asked):
                self._keeper.note("own")
                return await self._keeper.own_call(request)
            decision = self._keeper.decide(asked)
            if not decision.allowed:
                raise Denied(f"{asked} is not open to this sandbox: {decision.reason}.", rule=decision.rule)
            passage = await self._let_through(request, asked, decision, path, connection)
            if is_websocket(request):
                self._keeper.note("upgrade")
                return await self._upgrade(request, passage)
            return await self._pass(request, passage)
        except CarrelError as error:
            self._keeper.note(error.code)
            return _refused(error, asked)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._keeper.note("unreachable")
            return _refused(unreachable(error), asked)

    def _seat(self, request: web.BaseRequest) -> Gatekeeper | None:
        return authorised(request.headers.get("Proxy-Authorization", "").encode("latin-1", "replace"), self._keeper)

    def _asked(self, request: web.BaseRequest, connection: Connection) -> tuple[Asked, str]:
        """What is asked for, and the path with its query as it was written; raises BadHost, Misdirected."""
        if request.method not in _METHODS:
            raise InvalidRequest(f"The method {request.method[:20]} is not passed on.")
        hosts = request.headers.getall("Host", [])
        raw = request._message.path  # noqa: SLF001 - as it was written, before anything is made of it
        if connection.target is None:
            if self._seat(request) is None:
                raise ProxyAuth("This proxy is for its own sandbox: use the address in HTTP_PROXY.")
            if not raw.lower().startswith("http://"):
                raise InvalidRequest("This is a proxy: ask it for a whole address, as http://host/path.")
            parts = urlsplit(raw)
            path = raw[len("http://") + len(parts.netloc) :] or "/"
            if parts.username is not None or "@" in parts.netloc:
                raise InvalidRequest("An address has no user in it here.")
            host, port = _authority(parts.netloc, 80)
        else:
            host, port, path = connection.target.host, connection.target.port, raw
            if not path.startswith("/") and (request.method, path) != ("OPTIONS", "*"):
                raise Misdirected("The path begins with `/` on a connection that was opened to its host.")
        if len(hosts) != 1 or _authority(hosts[0], PORTS["https" if connection.secure else "http"]) != (host, port):
            raise Misdirected("The Host of the request is not the host that was asked for.")
        path = path.partition("#")[0]
        return Asked(host, port, request.method, path.partition("?")[0]), path

    async def _let_through(
        self, request: web.BaseRequest, asked: Asked, decision: Decision, path: str, connection: Connection
    ) -> _Passage:  # fmt: skip
        listed = {
            name.strip().lower() for value in request.headers.getall("Connection", []) for name in value.split(",")
        }
        headers = CIMultiDict(
            (name, value)
            for name, value in request.headers.items()
            if name.lower() not in HOP_BY_HOP and name.lower() not in listed
        )
        bare, _, query = path.partition("?")
        bindings = self._keeper.bindings()
        mine = [binding for binding in bindings if binding.is_for(asked)]
        outgoing = Outgoing(headers, query, None, [], path=bare)
        if any(binding.declared.body is not None for binding in mine) and request.can_read_body:
            outgoing.body = await _whole(request)
        secrets = await self._keeper.secrets({binding.declared.source for binding in mine})
        swapped(outgoing, bindings, asked, secure=connection.secure, secrets=secrets)
        scheme = "https" if connection.secure else "http"
        name = f"[{asked.host}]" if ":" in asked.host.name else asked.host.name
        where = f"{scheme}://{name}" + ("" if asked.port == PORTS[scheme] else f":{asked.port}")
        if outgoing.body is not None:
            headers.popall("Content-Length", None)
        bound = tuple((one.mark.encode(), secrets[one.declared.source].reveal()) for one in mine)
        if bound:
            # What comes back is read, so it is asked for in a form that can be.
            headers["Accept-Encoding"] = "identity"
        target = bare + (f"?{outgoing.query}" if outgoing.query or "?" in path else "")
        return _Passage(asked, decision, URL(where + target, encoded=True), outgoing, connection.secure, bound)

    async def _pass(self, request: web.BaseRequest, passage: _Passage) -> web.StreamResponse:
        await _vet(self._keeper.dialler, passage)
        counted = [0]
        body: Any = passage.outgoing.body
        if body is None and request.can_read_body:
            body = _watched(request, counted, passing_of(self._keeper.bindings()))
        async with self._keeper.client(passage.decision.permitted) as client, client.request(
            request.method, passage.url, headers=passage.outgoing.headers, data=body, allow_redirects=False,
            ssl=self._keeper.tls() if passage.secure else True,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=15.0, sock_read=STALL_SECONDS),
        ) as answer:  # fmt: skip
            return await self._back(request, answer, passage, counted[0])

    async def _back(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, passage: _Passage, sent: int
    ) -> web.StreamResponse:
        if answer.status == 101:
            raise UpstreamError("The host changes to a protocol that it was not asked for.")
        scrubber, scrubs = passage.scrubber(), bool(passage.bound)
        listed = {
            name.strip().lower() for value in answer.headers.getall("Connection", []) for name in value.split(",")
        }
        drop = HOP_BY_HOP | listed | ({"content-length", "content-encoding", "content-md5"} if scrubs else set())
        headers = CIMultiDict(
            (name, scrubber.text(value)) for name, value in answer.headers.items() if name.lower() not in drop
        )
        decoder = decoder_of(answer.headers.getall("Content-Encoding", [])) if scrubs else None
        passed = Passed(answer.status, scrubber.text(answer.reason or ""), headers)
        await passed.prepare(request)
        received = 0
        try:
            async for piece in answer.content.iter_any():
                received += len(piece)
                for part in decoder.decoded(piece) if decoder is not None else (piece,):
                    out = scrubber.feed(part)
                    if out:
                        await passed.write(out)
            if decoder is not None and received:
                rest = scrubber.feed(decoder.rest()) + scrubber.finish()
                if rest:
                    await passed.write(rest)
        except (CarrelError, aiohttp.ClientError, TimeoutError, OSError):
            # It has begun: whoever reads it learns by its missing end that it was cut, and by nothing put after it.
            self._keeper.note("cut", sent, received)
            if request.transport is not None:
                request.transport.abort()
            return passed
        await passed.write_eof()
        self._keeper.note("request", sent, received)
        return passed

    async def _upgrade(self, request: web.BaseRequest, passage: _Passage) -> web.StreamResponse:
        connected = await self._keeper.dialler.connected(
            passage.asked.host, passage.asked.port, permitted=passage.decision.permitted
        )
        fields = passage.outgoing.headers
        fields["Connection"], fields["Upgrade"] = "Upgrade", "websocket"
        if passage.bound:
            # Compressed frames could not be searched.
            fields.popall("Sec-WebSocket-Extensions", None)
        head = f"{request.method} {passage.url.raw_path_qs} HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in fields.items()
        )
        tls = self._keeper.tls() if passage.secure else None
        return await upgraded(
            request, connected, (head + "\r\n").encode("latin-1", "replace"), tls=tls,
            server_name=passage.asked.host.name, scrubber=passage.scrubber(same_length=True),
        )  # fmt: skip


class ProxyAuth(InvalidRequest):
    """The request does not have this gate's own password."""

    code = "proxy_auth"


class _Refusal(OSError):
    """An address that is not connected to, in the words of a resolver."""

    def __init__(self, error: CarrelError) -> None:
        super().__init__(error.message)
        self.error = error


class Pinned(AbstractResolver):
    """Gives an HTTP client the addresses that were judged, and no others."""

    def __init__(self, dialler: Dialler, permitted: tuple[Network, ...]) -> None:
        self._dialler = dialler
        self._permitted = permitted

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        """As aiohttp asks."""
        try:
            good = await self._dialler.vetted(canonical(host), permitted=self._permitted)
        except CarrelError as error:
            raise _Refusal(error) from error
        return [
            ResolveResult(hostname=host, host=str(address), port=port, proto=0, flags=0,
                          family=socket.AF_INET6 if address.version == 6 else socket.AF_INET)
            for address in good
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing is held."""


async def _vet(dialler: Dialler, passage: _Passage) -> None:
    """An address is dialled without asking a resolver: it is judged here."""
    if passage.asked.host.address is not None:
        await dialler.vetted(passage.asked.host, permitted=passage.decision.permitted)


async def _whole(request: web.BaseRequest) -> bytes:
    body = b""
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > BODY_BYTES:
            raise TooLarge(f"A body that a secret may go into is {BODY_BYTES} bytes at most.")
    return body


async def _watched(request: web.BaseRequest, counted: list[int], passing: frozenset[bytes]) -> AsyncIterator[bytes]:
    """The body as it comes; one that holds a placeholder, which no place here is for, breaks off."""
    tail = b""
    async for piece in request.content.iter_any():
        counted[0] += len(piece)
        seen = tail + piece
        if any(found not in passing for found in ANY.findall(seen)):
            raise PlaceholderMisplaced("The body holds the placeholder of a secret, which has no place there.")
        tail = seen[-64:]
        yield piece


def _authority(text: str, default: int) -> tuple[Host, int]:
    """Host and port of a Host field; raises BadHost."""
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return canonical(text), default
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise BadHost("The port is 1 to 65535.")
    return canonical(name), int(port)


def _refused(error: CarrelError, asked: Asked | None) -> web.Response:
    status = {
        "egress_denied": 403, "address_refused": 403, "placeholder_misplaced": 403, "misdirected": 421,
        "proxy_auth": 407, "too_large": 413, "unreachable": 502, "upstream_error": 502, "secret_missing": 502,
        "secret_unfit": 502, "connection_unusable": 502, "oauth_refused": 502, "oauth_unclear": 502,
        "upstream_timeout": 504,
    }.get(error.code, 400)  # fmt: skip
    rule = error.rule if isinstance(error, Denied) else ""
    headers = {"X-Carrel-Egress": error.code}
    if status == 407:
        headers["Proxy-Authenticate"] = 'Basic realm="carrel"'
    answer = web.Response(
        status=status, body=refusal_body(error.code, error.message, asked=asked, rule=rule), headers=headers,
        content_type="application/json",
    )  # fmt: skip
    answer.force_close()
    return answer


def unreachable(error: Exception) -> CarrelError:
    """Why a host was not talked to, where an HTTP client gave up for ``error``."""
    if isinstance(error.__cause__, CarrelError):
        return error.__cause__
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, _Refusal):
        return error.os_error.error
    return Unreachable(f"The host could not be talked to: {_reason(error)}.")


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate does not hold ({error.certificate_error})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


__all__ = ["AddressRefused", "Door", "Pinned", "UpstreamError"]
