"""A request of aiohttp's as the relay's caller: the answer goes straight to its connection, past aiohttp's writer."""

from typing import Protocol

from aiohttp import web
from aiohttp.http import HttpVersion11

from carrel.ids import RequestId
from carrel.relay.answer import Answer, Caller, CallerGone
from carrel.relay.dialects.chat import ChatFields
from carrel.relay.dialects.protocol import CallFields
from carrel.tenancy.handle import Snapshot, Tenant


class Relayed(web.StreamResponse):
    """What a handler gives back for an answer that the relay wrote, and the `Caller` that it is written to.

    The relay either finishes it or raises before its first byte.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        super().__init__()
        self._to = request
        self.keeps = bool(request.keep_alive)
        self.started = False

    async def introduce(self) -> None:
        """Take what every answer of the server gets: the hook that aiohttp's own responses call at this place."""
        await self._to._prepare_hook(self)  # noqa: SLF001 - there is no public way to it
        # The relay's answers name their request by themselves, also where no hook does.
        self.headers.pop("X-Request-Id", None)

    # --- as the relay's caller ---

    @property
    def modern(self) -> bool:
        return self._to.version >= HttpVersion11

    @property
    def paused(self) -> bool:
        return self._to.protocol.writing_paused

    def lines(self) -> str:
        return "".join([f"{name}: {value}\r\n" for name, value in self.headers.items()])

    def put(self, data: bytes) -> None:
        transport = self._to.transport
        if transport is None or transport.is_closing():
            self.keeps = False
            raise CallerGone
        self.started = True
        self._to.writer.output_size += len(data)
        transport.write(data)

    async def drained(self) -> None:
        await self._to.writer.drain()

    def abort(self) -> None:
        if self._to.transport is not None:
            self._to.transport.abort()

    # --- as aiohttp's response ---

    @property
    def keep_alive(self) -> bool | None:
        return self.keeps

    def force_close(self) -> None:
        self.keeps = False

    async def prepare(self, request: web.BaseRequest) -> None:
        if not self.started:
            raise RuntimeError("an answer is returned that was not begun")

    async def write_eof(self, data: bytes = b"") -> None:
        if self._to.protocol.writing_paused:
            await self._to.writer.drain()


class PassesOn(Protocol):
    """A way to pass calls on; a class that inherits it can also answer a request of aiohttp's with one."""

    async def pass_on(
        self,
        caller: Caller,
        tenant: Tenant,
        snapshot: Snapshot,
        request_id: RequestId,
        body: bytes,
        *,
        fields: CallFields,
        more: bytes = b"",
    ) -> Answer:
        """See `relay.Relay.pass_on`."""

    async def handle(
        self,
        request: web.BaseRequest,
        tenant: Tenant,
        snapshot: Snapshot,
        request_id: RequestId,
        body: bytes,
        *,
        dialect: type[CallFields] = ChatFields,
    ) -> web.StreamResponse:
        """Pass ``body`` on and its answer back, metered. The request was admitted before.

        Raises CarrelError before the answer's first byte; after it, an answer that fails is cut.
        """
        relayed = Relayed(request)
        await relayed.introduce()
        answer = await self.pass_on(
            relayed, tenant, snapshot, request_id, body, fields=dialect.read(body),
            more=dialect.forwarded(request.headers),
        )  # fmt: skip
        relayed.set_status(answer.status)
        return relayed
