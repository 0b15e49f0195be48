"""The fake vendor's server: real sockets, scripts by model name, and a record of everything that came in."""

import asyncio
import json
from dataclasses import dataclass, field
from types import ModuleType, TracebackType
from typing import Any, Self

from aiohttp import web

from tests.fakes.vendor import agent, anthropic_side, openai_side, responses_side
from tests.fakes.vendor.scripts import BUILT_IN, OK, Script

Json = dict[str, Any]


@dataclass(slots=True)
class Received:
    """One request. ``gone`` is set when the caller left before the answer's end, ``answered`` at that end."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    body: Json
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class FakeVendor:
    """Start it with ``async with``; ``url`` is its address, ``received`` what came in, oldest first."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.received: list[Received] = []
        self._scripts: dict[str, tuple[Script, ...]] = dict(BUILT_IN)
        self._turns: dict[str, int] = {}
        self._host, self._port = host, port
        self._runner: web.AppRunner | None = None
        self._release = asyncio.Event()
        self.go_on = asyncio.Event()

    def script(self, model: str, *scripts: Script) -> None:
        """Answer for ``model`` with ``scripts`` in turn, again and again."""
        self._scripts[model] = scripts
        self._turns.pop(model, None)

    @property
    def url(self) -> str:
        """The address without a path, as Anthropic's SDK wants its base_url."""
        return f"http://{self._host}:{self._port}"

    @property
    def openai_url(self) -> str:
        """The base_url for OpenAI's SDK."""
        return self.url + "/v1"

    @property
    def last(self) -> Received:
        """The newest request."""
        return self.received[-1]

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=256 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._openai)
        app.router.add_post("/v1/responses", self._responses)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_post("/v1/messages", self._anthropic)
        app.router.add_post("/v1/messages/count_tokens", self._count_tokens)
        app.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release.set()
        self.go_on.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _models(self, _: web.Request) -> web.Response:
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "fake"} for name in self._scripts]
        return web.json_response({"object": "list", "data": data})

    async def _count_tokens(self, request: web.Request) -> web.Response:
        received = await self._note(request)
        script = self._next_script(str(received.body.get("model")))
        headers = {"request-id": f"vendor_req_{len(self.received)}", **script.headers}
        if script.status != 200:
            return web.json_response(anthropic_side.error(script), status=script.status, headers=headers)
        return web.json_response({"input_tokens": len(received.raw) // 4}, headers=headers)

    async def _embeddings(self, request: web.Request) -> web.Response:
        received = await self._note(request)
        script = self._next_script(str(received.body.get("model")))
        headers = {"x-request-id": f"vendor_req_{len(self.received)}", **script.headers}
        if script.status != 200:
            return web.json_response(openai_side.error(script), status=script.status, headers=headers)
        return web.json_response(openai_side.vectors(received.body, script), headers=headers)

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, responses_side, "x-request-id")

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, openai_side, "x-request-id")

    async def _anthropic(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, anthropic_side, "request-id")

    async def _note(self, request: web.Request) -> Received:
        raw = await request.read()
        try:
            body = json.loads(raw)
        except ValueError:
            body = {}
        headers = {k.lower(): v for k, v in request.headers.items()}
        received = Received(request.method, request.path, headers, raw, body if isinstance(body, dict) else {})
        self.received.append(received)
        return received

    def _next_script(self, model: str) -> Script:
        scripts = self._scripts.get(model, (OK,))
        turn = self._turns.get(model, 0)
        self._turns[model] = turn + 1
        return scripts[turn % len(scripts)]

    async def _answer(self, request: web.Request, side: ModuleType, id_header: str) -> web.StreamResponse:
        received = await self._note(request)
        model = str(received.body.get("model"))
        script = agent.script_for(received.body) if model == agent.MODEL else self._next_script(model)
        number = len(self.received)
        headers = {id_header: f"vendor_req_{number}", **script.headers}
        refused = next((name for name in script.refuses if name in received.body), None)
        if refused is not None:
            script = Script(status=400, error=f"Unrecognized request argument supplied: {refused}")
        try:
            if script.drop:
                return _abort(request)
            if script.status != 200:
                return web.json_response(side.error(script), status=script.status, headers=headers)
            answer_id = script.answer_id or f"answer_{number}"
            if not received.body.get("stream") or script.unstreamed:
                return web.json_response(side.whole(received.body, script, answer_id), headers=headers)
            frames = side.frames(received.body, script, answer_id)
            return await self._stream(request, side, script, frames, headers)
        except (asyncio.CancelledError, ConnectionResetError):
            received.gone.set()
            raise
        finally:
            received.answered.set()

    async def _stream(
        self, request: web.Request, side: ModuleType, script: Script, frames: list[bytes], headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", **headers})
        await response.prepare(request)
        for number, frame in enumerate(frames):
            if script.keepalive:
                await response.write(b": keep-alive\n\n")
            if number == script.stall_at:
                await self._release.wait()
                return _abort(request)
            if number == script.hold_at:
                await self.go_on.wait()
            if number == script.cut_at:
                await response.write(frame[: len(frame) // 2])
                await asyncio.sleep(0.01)
                return _abort(request)
            if number == script.stop_at:
                break
            if number == script.malformed_at:
                await response.write(side.malformed())
            if number == script.error_at:
                await response.write(side.error_frame(script))
                break
            await response.write(frame)
            if script.delay:
                await asyncio.sleep(script.delay)
        await response.write_eof()
        return response


def _abort(request: web.Request) -> web.StreamResponse:
    """Reset the connection: the caller sees no orderly end."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("as scripted")
