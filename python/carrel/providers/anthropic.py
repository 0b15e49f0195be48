"""Anthropic's Messages API, and servers that speak it.

The SDK is imported and its client made at the first call, in a thread: neither a start nor the loop pays for it. The
SDK makes the request and reports its errors; the answer's bytes are read by our own reader.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

from carrel.clock import Clock
from carrel.declare.gateway import ProviderConfig
from carrel.providers.call import Answer, Limits, StreamCall
from carrel.providers.connections import client_options, transport_errors
from carrel.providers.failures import connection_error, status_error
from carrel.secrets import Secret
from carrel.wire.anthropic_messages import EventReader, request_body
from carrel.wire.conversation import ModelEvent, ModelRequest

if TYPE_CHECKING:
    import anthropic

PUBLIC_BASE_URL: Final = "https://api.anthropic.com"
_NO_KEY: Final = "none"


class AnthropicProvider:
    """Anthropic, or a server that speaks its dialect, with one key."""

    def __init__(
        self, name: str, config: ProviderConfig, *, key: Secret | None, clock: Clock, tls: ssl.SSLContext | None = None
    ) -> None:
        self._name = name
        self._config = config
        self._key = key
        self._clock = clock
        self._tls = tls
        self._client: anthropic.AsyncAnthropic | None = None
        self._making = asyncio.Lock()

    @property
    def name(self) -> str:
        return self._name

    async def close(self) -> None:
        """Give connections back. Calls under way end with an error."""
        if self._client is not None:
            await self._client.close()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """The answer piece by piece; see `providers.protocol`."""
        request_body(request)  # what cannot be said in this dialect is refused before anything is opened
        call = StreamCall(
            provider=self._name,
            opener=lambda: self._ask(request),
            make_reader=EventReader,
            limits=Limits(self._config.timeout_seconds, self._config.first_byte_seconds, self._config.max_retries),
            clock=self._clock,
            secret=self._secret,
        )
        async with aclosing(call.events()) as events:
            async for event in events:
                yield event

    @property
    def _secret(self) -> str:
        return self._key.reveal() if self._key is not None else ""

    def _older_header(self) -> dict[str, str]:
        """Servers that took the dialect over look for the key where Anthropic's API first had it."""
        return {"X-Api-Key": self._secret} if self._config.base_url and self._secret else {}

    async def _ready(self) -> "anthropic.AsyncAnthropic":
        async with self._making:
            if self._client is None:
                self._client = await asyncio.to_thread(self._make_client)
            return self._client

    def _make_client(self) -> "anthropic.AsyncAnthropic":
        import anthropic  # noqa: PLC0415 - imported at the first call: see the module's docstring

        options = client_options(self._config, self._tls)
        return anthropic.AsyncAnthropic(
            api_key=self._secret or _NO_KEY,
            base_url=self._config.base_url or PUBLIC_BASE_URL,
            webhook_key="",
            default_headers=self._older_header(),
            max_retries=0,
            open_telemetry=False,
            timeout=options.timeout,
            http_client=anthropic.DefaultAsyncHttpxClient(**options.client),
        )

    @asynccontextmanager
    async def _ask(self, request: ModelRequest) -> AsyncIterator[Answer]:
        client = await self._ready()
        import anthropic  # noqa: PLC0415 - loaded by now

        body = request_body(request)
        model, messages, limit = body.pop("model"), body.pop("messages"), body.pop("max_tokens")
        try:
            async with client.messages.with_streaming_response.create(
                model=model, messages=messages, max_tokens=limit, stream=True, extra_body=body
            ) as response:
                yield Answer(response.iter_bytes(), response.headers.get("request-id"))
        except anthropic.APIStatusError as error:
            raise status_error(
                self._name,
                status=error.status_code,
                body=error.body,
                headers=error.response.headers,
                secret=self._secret,
                now=self._clock.now(),
            ) from None
        except anthropic.APIConnectionError as error:
            raise connection_error(self._name, reason=type(error.__cause__ or error).__name__) from None
        except transport_errors() as error:
            raise connection_error(self._name, reason=type(error).__name__) from None
