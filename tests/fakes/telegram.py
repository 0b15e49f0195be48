"""A Bot API server on a socket, with the shapes and the errors that https://core.telegram.org/bots/api documents.

People are played by `say`; what the bot did is in `sent` and `calls`. It is held to the real API by
`tests/contract/test_telegram.py`, where a client of others' drives it.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
from aiohttp import web

T = TypeVar("T")
TOKEN = "123456789:AAF0fake0fake0fake0fake0fake0fake0f"
BOT_ID = 123456789
MOST = 4096


class Refusal(Exception):
    """What a method answers in place of a result."""

    def __init__(self, code: int, description: str, **parameters: Any) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.parameters = parameters


@dataclass
class BotApi:
    """One bot's server. ``reach`` takes the place of a webhook's scheme and host.

    ``shared``: several may poll at a time, which Telegram refuses; ``polling`` is how many do.
    """

    token: str = TOKEN
    username: str = "carrel_test_bot"
    reach: str | None = None
    shared: bool = False
    polling: int = 0
    chats: set[int] = field(default_factory=set)
    updates: list[dict[str, Any]] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refusals: list[tuple[str, Refusal]] = field(default_factory=list)
    delivered: list[int] = field(default_factory=list)
    webhook: dict[str, Any] = field(default_factory=dict)
    hold: float = 0.0
    base_url: str = ""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(700_000_001))
    _messages: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _loop: asyncio.AbstractEventLoop | None = None
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)
    _polls: int = 0

    # --- for tests, from any thread ---

    def say(self, text: str, *, sender: int = 42, chat: int | None = None, **more: Any) -> int:
        """Somebody writes; the update's number. ``more`` are further fields of the message."""
        kind = "supergroup" if chat is not None and chat < 0 else "private"
        place: dict[str, Any] = {"id": chat if chat is not None else sender, "type": kind}
        place |= {"title": "The team"} if kind == "supergroup" else {"first_name": "Ada"}
        person = {"id": sender, "is_bot": False, "first_name": "Ada", "language_code": "en"}
        message = {"message_id": next(self._messages), "from": person, "chat": place, "date": int(time.time())}
        return self.push({"message": {**message, **({"text": text} if text else {}), **more}})

    def push(self, update: dict[str, Any]) -> int:
        """An update of any kind; its number."""
        number = next(self._numbers)
        self._call(self._push({"update_id": number, **update}))
        return number

    def refuse(self, method: str, code: int, description: str, times: int = 1, **parameters: Any) -> None:
        """The next calls of ``method`` are refused."""
        self.refusals += [(method, Refusal(code, description, **parameters))] * times

    def texts(self, chat: int = 42) -> list[str]:
        """What the bot said in a chat."""
        return [one["text"] for one in list(self.sent) if one["chat"]["id"] == chat]

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(60)

    # --- the server ---

    async def _push(self, update: dict[str, Any]) -> None:
        message = update.get("message")
        if isinstance(message, dict):
            self.chats.add(message["chat"]["id"])
        async with self._came:
            self.updates.append(update)
            self._came.notify_all()

    async def handle(self, request: web.Request) -> web.Response:
        """One call of a method."""
        token, method = request.match_info["token"], request.match_info["method"]
        params: dict[str, Any] = dict(request.query)
        if request.content_type == "application/json":
            params |= await request.json()
        elif request.can_read_body:
            params |= dict(await request.post())
        try:
            if token != self.token:
                raise Refusal(401, "Unauthorized")
            call: Callable[..., Any] | None = getattr(self, f"_do_{method.lower()}", None)
            if call is None:
                raise Refusal(404, "Not Found")
            self.calls.append((method, params))
            for index, (name, refusal) in enumerate(self.refusals):
                if name == method:
                    del self.refusals[index]
                    raise refusal
            return web.json_response({"ok": True, "result": await call(params)})
        except Refusal as refusal:
            body = {"ok": False, "error_code": refusal.code, "description": refusal.description}
            more = {"parameters": refusal.parameters} if refusal.parameters else {}
            return web.json_response({**body, **more}, status=refusal.code)

    async def _do_getme(self, params: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": BOT_ID, "is_bot": True, "first_name": "Carrel", "username": self.username, "can_join_groups": True,
            "can_read_all_group_messages": False, "supports_inline_queries": False, "can_connect_to_business": False,
            "has_main_web_app": False,
        }  # fmt: skip

    async def _do_getupdates(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        if self.webhook.get("url"):
            raise Refusal(409, "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to "
                               "delete the webhook first")  # fmt: skip
        self._polls += 1
        self.polling += 1
        try:
            return await self._held(params, self._polls)
        finally:
            self.polling -= 1

    async def _held(self, params: dict[str, Any], mine: int) -> list[dict[str, Any]]:
        deadline = time.monotonic() + float(params.get("timeout", 0))
        async with self._came:
            self._came.notify_all()
            if "offset" in params:
                self.updates = [u for u in self.updates if u["update_id"] >= int(params["offset"])]
            while not self.updates and time.monotonic() < deadline:
                try:
                    await asyncio.wait_for(self._came.wait(), deadline - time.monotonic())
                except TimeoutError:
                    break
                if mine != self._polls and not self.shared:
                    raise Refusal(409, "Conflict: terminated by other getUpdates request; make sure that only one bot "
                                       "instance is running")  # fmt: skip
            return self.updates[: int(params.get("limit", 100))]

    async def _do_setwebhook(self, params: dict[str, Any]) -> bool:
        if not str(params.get("url", "")).startswith("https://"):
            raise Refusal(400, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook")
        self.webhook = params
        return True

    async def _do_deletewebhook(self, params: dict[str, Any]) -> bool:
        self.webhook = {}
        return True

    async def _do_getwebhookinfo(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"url": self.webhook.get("url", ""), "has_custom_certificate": False,
                "pending_update_count": len(self.updates)}  # fmt: skip

    async def _do_sendmessage(self, params: dict[str, Any]) -> dict[str, Any]:
        text, chat = str(params.get("text", "")), int(params.get("chat_id", 0))
        if not text.strip():
            raise Refusal(400, "Bad Request: message text is empty")
        if len(text.encode("utf-16-le")) // 2 > MOST:
            raise Refusal(400, "Bad Request: message is too long")
        if chat not in self.chats:
            raise Refusal(400, "Bad Request: chat not found")
        message = {
            "message_id": next(self._messages), "from": await self._do_getme({}), "date": int(time.time()),
            "chat": {"id": chat, "type": "supergroup" if chat < 0 else "private"}, "text": text,
        }  # fmt: skip
        self.sent.append({**message, "params": params, "at": time.perf_counter()})
        await asyncio.sleep(self.hold)
        return message

    async def _do_sendchataction(self, params: dict[str, Any]) -> bool:
        if int(params.get("chat_id", 0)) not in self.chats:
            raise Refusal(400, "Bad Request: chat not found")
        return True

    async def deliver(self) -> None:
        """Call the webhook with what waits, again until it is taken, as Telegram does."""
        async with aiohttp.ClientSession() as client:
            while True:
                async with self._came:
                    while not (self.updates and self.webhook.get("url")):
                        await self._came.wait()
                    update = self.updates[0]
                url = str(self.webhook["url"])
                if self.reach is not None:
                    url = self.reach + "/" + url.split("/", 3)[3]
                headers = {"X-Telegram-Bot-Api-Secret-Token": str(self.webhook.get("secret_token", ""))}
                try:
                    async with client.post(url, json=update, headers=headers) as answer:
                        taken = answer.status == 200
                        self.delivered.append(answer.status)
                except aiohttp.ClientError:
                    taken = False
                if taken:
                    self.updates = [u for u in self.updates if u is not update]
                else:
                    await asyncio.sleep(0.05)


@contextmanager
def running_bot_api(**options: Any) -> Iterator[BotApi]:
    """A server on a free port, on a loop and a thread of its own."""
    api = BotApi(**options)
    ready = threading.Event()
    stop: Future[None] = Future()

    async def serve() -> None:
        api._loop = asyncio.get_running_loop()
        api._came = asyncio.Condition()
        app = web.Application()
        app.router.add_route("*", "/bot{token}/{method}", api.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        api.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        delivering = asyncio.get_running_loop().create_task(api.deliver())
        ready.set()
        await asyncio.wrap_future(stop)
        delivering.cancel()
        await asyncio.wait([delivering])
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="bot-api")
    thread.start()
    assert ready.wait(60)
    try:
        yield api
    finally:
        stop.set_result(None)
        thread.join(60)
