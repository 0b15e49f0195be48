"""The front of a gate: what a client says first (HTTP, CONNECT or SOCKS5), and the way it takes from there."""

import asyncio
import base64
import hmac
import re
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Final, Protocol, TypeVar, cast

from carrel.declare.hosts import BadHost, Host, canonical, of_address
from carrel.egress.hello import MOST_BYTES, NotTls, hello_in
from carrel.egress.refusal import refusal
from carrel.egress.resolve import AddressRefused, Dialler, Unreachable
from carrel.egress.tunnel import Tunnel, joined
from carrel.errors import CarrelError
from carrel.policy.egress.rules import Asked, Decision

ESTABLISH_SECONDS: Final = 30.0
MOST_HEAD: Final = 16 << 10
USER: Final = "carrel"
HTTP_PORT: Final = 80
_CONNECT: Final = b"CONNECT "
_REQUEST: Final = re.compile(rb"CONNECT ([!-~]{1,512}) HTTP/1\.[01]\r\n")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}):[ \t]*([\t -~\x80-\xff]*)\r\n")
_AUTHORITY: Final = re.compile(r"(\[[^\]]*\]|[^:]*):([0-9]{1,5})")
_ALERT_UNRECOGNIZED_NAME: Final = b"\x15\x03\x01\x00\x02\x02\x70"
_SOCKS: Final = 5
Over = Callable[[], None]
T_co = TypeVar("T_co", covariant=True)
_SOCKS_DENIED, _SOCKS_UNREACHABLE, _SOCKS_NOT_SUPPORTED = 2, 4, 7


class Seats(Protocol[T_co]):
    """Knows by their passwords for whom its gate is."""

    def seat(self, password: str) -> T_co | None:
        """What answers those who have ``password``; None where nobody here does."""
        ...


class Way(Protocol):
    """What a front asks of its gate."""

    dialler: Dialler

    def seat(self, password: str) -> "Way | None":
        """See `Seats.seat`."""
        ...

    def decide(self, asked: Asked) -> Decision:
        """The judgement on ``asked``, noted where it refuses."""
        ...

    def looks_in(self, asked: Asked, decision: Decision) -> bool:
        """Whether the gateway ends TLS and looks into the requests."""
        ...

    def serve_http(self, transport: asyncio.Transport, first: bytes, target: Asked | None, over: Over, /) -> None:
        """Go on in HTTP, to ``target`` where one is fixed; ``first`` is read already. ``over`` is called at its end."""
        ...

    def serve_tls(self, transport: asyncio.Transport, first: bytes, target: Asked, over: Over, /) -> None:
        """End TLS and go on in HTTP inside of it."""
        ...

    def opened(self, connection: "Front") -> bool:
        """Note a connection; False where there are too many."""
        ...

    def closed(self, connection: "Front") -> None:
        """Note its end."""
        ...

    def note(self, outcome: str, sent: int = 0, received: int = 0) -> None:
        """Count how a connection went, and its bytes."""
        ...

    def run(self, work: Awaitable[None]) -> "asyncio.Task[None]":
        """Run ``work`` as a task of the gate's."""
        ...


class Front(asyncio.Protocol):
    """One connection, until it is a tunnel or belongs to an HTTP server."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._hear: Callable[[], None] = self._first
        self._transport: asyncio.Transport | None = None
        self._upstream: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._work: asyncio.Task[None] | None = None
        self._asked: Asked | None = None
        self._tunnel: Tunnel | None = None

    # --- as a protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._way.opened(self):
            self._transport.close()
            return
        self._deadline = self._loop.call_later(ESTABLISH_SECONDS, self.abort)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._hear()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over()
        if self._work is not None:
            self._work.cancel()
        if self._upstream is not None:
            self._upstream.close()

    def abort(self) -> None:
        """End it now."""
        if self._tunnel is not None:
            self._tunnel.close()
        if self._transport is not None:
            self._transport.abort()

    def _over(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._way.closed(self)

    def _wait(self) -> None:
        """Nothing is heard for now."""

    # --- what is said first ---

    def _first(self) -> None:
        if self._buffer[0] == _SOCKS:
            self._hear = self._socks_greeting
            self._hear()
        elif _CONNECT.startswith(self._buffer[: len(_CONNECT)]):
            if len(self._buffer) >= len(_CONNECT):
                self._hear = self._connect
                self._hear()
        else:
            self._hand_over(lambda transport, first: self._way.serve_http(transport, first, None, self._over))

    def _connect(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MOST_HEAD:
                self._refuse(431, "too_large", "The head of the request is too long.")
            return
        head, self._buffer = self._buffer[: end + 2], self._buffer[end + 4 :]
        found = _REQUEST.match(head)
        fields = _fields(head[found.end() :]) if found is not None else None
        if found is None or fields is None:
            self._refuse(400, "bad_request", "The request is not well-formed HTTP/1.1.")
            return
        seat = authorised(fields.get(b"proxy-authorization"), self._way)
        if seat is None:
            self._refuse(407, "proxy_auth", "This proxy is for its own sandbox: use the address in HTTPS_PROXY.")
            return
        self._way = seat
        try:
            asked = asked_of(found[1].decode("ascii"))
        except BadHost as error:
            self._refuse(400, error.code, error.message)
            return
        self._go(asked, self._connect_to)

    async def _connect_to(self, asked: Asked) -> None:
        decision = self._way.decide(asked)
        if not decision.allowed:
            message = f"{asked} is not open to this sandbox: {decision.reason}."
            self._refuse(403, "egress_denied", message, asked=asked, rule=decision.rule)
            return
        if not self._way.looks_in(asked, decision) and not _is_plain_http(asked, decision):
            try:
                await self._dial(asked, decision)
            except CarrelError as error:
                self._way.note(error.code)
                self._refuse(502 if isinstance(error, Unreachable) else 403, error.code, error.message, asked=asked)
                return
        self._established(b"HTTP/1.1 200 Connection established\r\n\r\n", asked, decision)

    # --- SOCKS5 ---

    def _socks_greeting(self) -> None:
        if len(self._buffer) < 2 or len(self._buffer) < 2 + self._buffer[1]:
            return
        methods, self._buffer = self._buffer[2 : 2 + self._buffer[1]], self._buffer[2 + self._buffer[1] :]
        if b"\x02" not in methods:
            self._answer(b"\x05\xff", close=True)
            return
        self._answer(b"\x05\x02")
        self._hear = self._socks_password
        if self._buffer:
            self._hear()

    def _socks_password(self) -> None:
        data = self._buffer
        if len(data) < 2 or len(data) < 3 + data[1] or len(data) < 3 + data[1] + data[2 + data[1]]:
            return
        end = 3 + data[1] + data[2 + data[1]]
        password = data[3 + data[1] : end].decode("latin-1")
        self._buffer = data[end:]
        seat = self._way.seat(password)
        if data[0] != 1 or seat is None:
            self._answer(b"\x01\x01", close=True)
            return
        self._way = seat
        self._answer(b"\x01\x00")
        self._hear = self._socks_request
        if self._buffer:
            self._hear()

    def _socks_request(self) -> None:
        data = self._buffer
        if len(data) < 5:
            return
        size = {1: 4, 3: 1 + data[4], 4: 16}.get(data[3])
        if data[0] != _SOCKS or data[1] != 1 or size is None:
            self._socks_refuse(_SOCKS_NOT_SUPPORTED)
            return
        if len(data) < 4 + size + 2:
            return
        where, port = data[4 : 4 + size], int.from_bytes(data[4 + size : 6 + size], "big")
        self._buffer = data[6 + size :]
        try:
            host = _socks_host(data[3], where)
            if not port:
                raise BadHost("A port is 1 to 65535.")
        except (BadHost, ValueError):
            self._socks_refuse(_SOCKS_DENIED)
            return
        self._go(Asked(host, port), self._socks_to)

    async def _socks_to(self, asked: Asked) -> None:
        decision = self._way.decide(asked)
        if not decision.allowed:
            self._socks_refuse(_SOCKS_DENIED)
            return
        if not self._way.looks_in(asked, decision) and not _is_plain_http(asked, decision):
            try:
                await self._dial(asked, decision)
            except CarrelError as error:
                self._way.note(error.code)
                self._socks_refuse(_SOCKS_DENIED if isinstance(error, AddressRefused) else _SOCKS_UNREACHABLE)
                return
        self._established(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", asked, decision)

    def _socks_refuse(self, code: int) -> None:
        self._answer(bytes((_SOCKS, code, 0, 1, 0, 0, 0, 0, 0, 0)), close=True)

    # --- from there ---

    def _go(self, asked: Asked, work: Callable[[Asked], Awaitable[None]]) -> None:
        self._hear = self._wait
        self._asked = asked
        if self._transport is not None:
            self._transport.pause_reading()
        self._work = self._way.run(work(asked))

    async def _dial(self, asked: Asked, decision: Decision) -> None:
        connected = await self._way.dialler.connected(asked.host, asked.port, permitted=decision.permitted)
        self._upstream = await joined(connected)

    def _established(self, answer: bytes, asked: Asked, decision: Decision) -> None:
        """Say that the way is open, and judge by what comes next where it goes on."""
        if self._transport is None or self._transport.is_closing():
            return
        self._answer(answer)
        if self._way.looks_in(asked, decision):
            # It is the gateway that the hello is for, and each request is judged: nothing sealed can be of use.
            self._hear = lambda: self._hello(asked, self._end_tls, sealed=True)
        elif _is_plain_http(asked, decision):
            self._hear = lambda: self._hand_over(
                lambda transport, first: self._way.serve_http(transport, first, asked, self._over)
            )
        elif decision.tls:
            self._hear = lambda: self._hello(asked, self._join, sealed=False)
        else:
            self._hear = self._join
        self._transport.resume_reading()
        if self._buffer:
            self._hear()

    def _hello(self, asked: Asked, then: Callable[[], None], *, sealed: bool) -> None:
        """Go on where the first bytes are TLS, for the very host that was asked for.

        ``sealed``: also where a further hello is in it that cannot be read.
        """
        try:
            hello = hello_in(self._buffer[:MOST_BYTES])
        except NotTls:
            self._way.note("not_tls")
            self.abort()
            return
        if hello is None:
            return
        if not _agrees(hello.server_name, asked.host) or (hello.sealed and not sealed):
            self._way.note("sealed_name" if hello.sealed else "other_name")
            self._answer(_ALERT_UNRECOGNIZED_NAME, close=True)
            return
        then()

    def _join(self) -> None:
        if self._transport is None or self._upstream is None:
            return
        transport, upstream, self._upstream = self._transport, self._upstream, None
        self._tunnel = Tunnel(transport, upstream, ended=self._tunnelled)
        if self._deadline is not None:
            self._deadline.cancel()
        first, self._buffer = self._buffer, b""
        self._tunnel.start(first)

    def _tunnelled(self, sent: int, received: int) -> None:
        self._way.note("tunnel", sent, received)
        self._over()

    def _end_tls(self) -> None:
        asked = self._asked
        if asked is not None:
            self._hand_over(lambda transport, first: self._way.serve_tls(transport, first, asked, self._over))

    def _hand_over(self, to: Callable[[asyncio.Transport, bytes], None]) -> None:
        """The connection is another protocol's from here on; it stays counted until that has ended."""
        if self._transport is None:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        first, self._buffer = self._buffer, b""
        to(self._transport, first)

    def _answer(self, data: bytes, *, close: bool = False) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            if close:
                self._hear = self._wait
                self._transport.close()

    def _refuse(self, status: int, code: str, message: str, *, asked: Asked | None = None, rule: str = "") -> None:
        self._answer(refusal(status, code, message, asked=asked, rule=rule), close=True)


def authorised(value: bytes | None, way: Seats[T_co]) -> T_co | None:
    """Whose password ``value`` of a Proxy-Authorization field has, of those that the gate is for."""
    scheme, _, text = (value or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, _, password = base64.b64decode(text.strip(), validate=True).decode("latin-1").partition(":")
    except ValueError:
        return None
    return way.seat(password) if hmac.compare_digest(user.encode("latin-1"), USER.encode()) else None


def asked_of(authority: str) -> Asked:
    """The connection that ``host:port`` asks for; raises BadHost."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None or not 1 <= int(found[2]) <= 65535:
        raise BadHost("CONNECT takes `host:port`.")
    return Asked(canonical(found[1]), int(found[2]))


def _fields(text: bytes) -> dict[bytes, bytes] | None:
    """The fields of a head by lower-case name, None where it is not well-formed or says one of them twice."""
    fields: dict[bytes, bytes] = {}
    at = 0
    while at < len(text):
        found = _FIELD.match(text, at)
        if found is None or found[1].lower() in fields:
            return None
        fields[found[1].lower()] = found[2].rstrip(b" \t")
        at = found.end()
    return fields


def _socks_host(kind: int, where: bytes) -> Host:
    if kind == 3:
        return canonical(where[1:].decode("ascii"))

    return of_address(ip_address(where))


def _agrees(server_name: str | None, host: Host) -> bool:
    """Whether a client that asked for ``host`` may name ``server_name`` in TLS; an address is named by nobody."""
    if server_name is None:
        return host.address is not None
    try:
        return canonical(server_name) == host
    except BadHost:
        return False


def _is_plain_http(asked: Asked, decision: Decision) -> bool:
    return asked.port == HTTP_PORT and not decision.tls
