"""Telegram, by its Bot API over plain HTTP: long polling and webhooks (https://core.telegram.org/bots/api).

A bot's token is in the path of every request there, so no address and no exception of the HTTP client leaves this file.
"""

import asyncio
import hashlib
import hmac
import json
import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
from pydantic import ValidationError
from yarl import URL

from carrel.channels import telegram_wire as wire
from carrel.channels.inbound import Batch, Chat
from carrel.channels.protocol import ChannelError, Hook, Identity, Proof
from carrel.declare.channels import ChannelsConfig
from carrel.errors import InvalidRequest
from carrel.secrets import Secret

POLL_SECONDS: Final = 50
CALL_SECONDS: Final = 20.0
MOST_BYTES: Final = 16 << 20
HEADER: Final = "x-telegram-bot-api-secret-token"
ALLOWED: Final = ("message",)
_TOKEN: Final = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{20,100}")
_PROOF: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
_SHOWN: Final = 200


class Telegram:
    """See `protocol.Platform`. The HTTP client is made for the first account."""

    label = "Telegram"
    typing_seconds = 4.0
    manner = "Write plain text: Markdown is shown there as it is written."

    def __init__(self, *, poll_seconds: int = POLL_SECONDS) -> None:
        self._poll_seconds = poll_seconds
        self._client: aiohttp.ClientSession | None = None

    def link(self, shared: ChannelsConfig, token: Secret) -> "TelegramLink":
        """See `Platform`."""
        if not _TOKEN.fullmatch(token.reveal()):
            raise ChannelError("What the secret holds is no bot token: it looks like `123456789:AA…`, from @BotFather.")
        return TelegramLink(self._session, shared.telegram.base_url, token, self._poll_seconds)

    async def _session(self) -> aiohttp.ClientSession:
        if self._client is not None:
            return self._client
        tls = await asyncio.to_thread(ssl.create_default_context)
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=tls), cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
            )  # fmt: skip
        return self._client

    async def close(self) -> None:
        """See `Platform`."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()


class SecretHeader:
    """The proof that Telegram gives: a secret that it was told, in a header."""

    def __init__(self, secret: str) -> None:
        self._digest = hashlib.sha256(secret.encode()).digest()

    def __call__(self, headers: Mapping[str, Sequence[str]], body: bytes) -> bool:
        given = headers.get(HEADER, ())
        text = given[0] if len(given) == 1 else ""
        same = hmac.compare_digest(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest(), self._digest)
        return same and bool(text)


class TelegramLink:
    """One bot. See `protocol.Link`."""

    def __init__(self, session: Any, base_url: str, token: Secret, poll_seconds: int) -> None:
        self._session = session
        self._base = base_url
        self._token = token
        self._poll_seconds = poll_seconds
        self._me = Identity(token.reveal().partition(":")[0], "")

    async def connect(self, hook: Hook | None) -> Identity:
        """See `Link`."""
        me = await self.identify()
        if hook is None:
            await self._call("deleteWebhook", {})
        else:
            proof = {"secret_token": hook.secret.reveal()}
            await self._call("setWebhook", {"url": hook.url, "allowed_updates": ALLOWED, **proof})
        return me

    async def identify(self) -> Identity:
        """See `Link`."""
        try:
            found = wire.User.model_validate(await self._call("getMe", {}))
        except ValidationError:
            raise _strange() from None
        self._me = Identity(str(found.id), found.username)
        return self._me

    async def receive(self, number: int | None) -> Batch:
        """See `Link`."""
        asked: dict[str, Any] = {"timeout": self._poll_seconds, "allowed_updates": ALLOWED, "limit": 100}
        if number is not None:
            asked["offset"] = number
        updates = await self._call("getUpdates", asked, seconds=self._poll_seconds + CALL_SECONDS)
        if not isinstance(updates, list):
            raise _strange()
        return wire.batch(updates, self._me)

    def read(self, body: bytes) -> Batch:
        """See `Link`."""
        try:
            update = json.loads(body)
        except (ValueError, RecursionError):
            raise InvalidRequest("The body is no JSON.") from None
        if not isinstance(update, dict) or not isinstance(update.get("update_id"), int):
            raise InvalidRequest("The body is no update.", param="update_id")
        return wire.batch([update], self._me)

    def proof(self, secret: Secret) -> Proof:
        """See `Link`."""
        if not _PROOF.fullmatch(secret.reveal()):
            raise ChannelError("A webhook's secret is 1 to 256 of A-Z, a-z, 0-9, `_` and `-`: this one is not.")
        return SecretHeader(secret.reveal())

    def pieces(self, text: str) -> Sequence[str]:
        """See `Link`."""
        return wire.pieces(text)

    async def send(self, chat: Chat, text: str, *, answers: str | None = None) -> None:
        """See `Link`."""
        said: dict[str, Any] = {**_to(chat), "text": text}
        if answers and chat.kind == "group":
            said["reply_parameters"] = {"message_id": int(answers), "allow_sending_without_reply": True}
        await self._call("sendMessage", said)

    async def typing(self, chat: Chat) -> None:
        """See `Link`."""
        await self._call("sendChatAction", {**_to(chat), "action": "typing"})

    async def disconnect(self) -> None:
        """See `Link`."""
        await self._call("deleteWebhook", {})

    async def _call(self, method: str, params: Mapping[str, Any], *, seconds: float = CALL_SECONDS) -> Any:
        url = URL(f"{self._base}/bot{self._token.reveal()}/{method}", encoded=True)
        try:
            async with asyncio.timeout(seconds):
                session = await self._session()
                async with session.post(url, json=params, allow_redirects=False) as answer:
                    status, body = answer.status, await _body(answer)
        except TimeoutError:
            raise ChannelError(f"Telegram did not answer {method} in {seconds:g} s.", retryable=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Its text may hold the address, and that has the token in it.
            raise ChannelError(f"Telegram could not be asked: {type(error).__name__}.", retryable=True) from None
        return self._result(method, status, body)

    def _result(self, method: str, status: int, body: bytes) -> Any:
        try:
            # Not by pydantic's own parser: half a surrogate in one message would make all of them unreadable.
            reply = wire.Reply.model_validate(json.loads(body))
        except (ValueError, RecursionError):
            if status >= 500:
                raise ChannelError(f"Telegram answered {method} with {status}.", retryable=True) from None
            raise _strange() from None
        if reply.ok:
            return reply.result
        code = reply.error_code or status
        said = "".join(letter for letter in reply.description if letter.isprintable())
        said = said.replace(self._token.reveal(), "***")[:_SHOWN]
        if code in (401, 404):
            raise ChannelError(f"Telegram does not know this bot's token ({code}): @BotFather shows the right one.")
        if code == 429:
            wait = float(reply.parameters.retry_after or 5)
            raise ChannelError(f"Telegram asks to wait for {wait:g} s.", retryable=True, retry_after=wait)
        if code == 409:
            raise ChannelError(f"Somebody else gets this bot's messages: {said}", retryable=True)
        raise ChannelError(f"Telegram refused {method} ({code}): {said}", retryable=code >= 500)


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    chunks, size = [], 0
    async for chunk in answer.content.iter_any():
        size += len(chunk)
        if size > MOST_BYTES:
            raise ChannelError(f"Telegram answered with more than {MOST_BYTES} bytes.", retryable=True)
        chunks.append(chunk)
    return b"".join(chunks)


def _to(chat: Chat) -> dict[str, Any]:
    where: dict[str, Any] = {"chat_id": int(chat.id)}
    return where if chat.thread is None else {**where, "message_thread_id": int(chat.thread)}


def _strange() -> ChannelError:
    return ChannelError(
        "What answered does not speak Telegram's Bot API: look at `channels.telegram.base_url`.", retryable=True
    )
