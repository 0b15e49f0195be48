"""OpenAI, and every server that speaks its chat completions: Llama, Mistral, Kimi, Ollama, vLLM and others.

The SDK is imported and its client made at the first call, in a thread: neither a start nor the loop pays for it. The
SDK makes the request and reports its errors; the answer's bytes are read by our own reader, which has limits and knows
the ways in which compatible servers differ.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from carrel.clock import Clock
from carrel.declare.gateway import ProviderConfig
from carrel.errors import UpstreamError
from carrel.providers.call import Answer, Limits, StreamCall
from carrel.providers.connections import client_options, transport_errors
from carrel.providers.failures import connection_error, status_error
from carrel.secrets import Secret
from carrel.wire.conversation import ModelEvent, ModelRequest
from carrel.wire.openai_upstream import ChunkReader, Dialect, request_body

if TYPE_CHECKING:
    import openai

PUBLIC_BASE_URL: Final = "https://api.openai.com/v1"
_NO_KEY: Final = "none"
_MAX_ADAPTATIONS: Final = 2
_RENAMED_LIMIT_HOSTS: Final = ("api.openai.com", ".openai.azure.com")


def dialect_of(base_url: str) -> Dialect:
    """What is known of a server by its address: OpenAI itself renamed the output limit, others kept the old name."""
    host = urlsplit(base_url).hostname or ""
    renamed = any(host == h or (h.startswith(".") and host.endswith(h)) for h in _RENAMED_LIMIT_HOSTS)
    return Dialect(limit_field="max_completion_tokens" if renamed else "max_tokens")


class OpenAIProvider:
    """One OpenAI-compatible server with one key."""

    def __init__(
        self, name: str, config: ProviderConfig, *, key: Secret | None, clock: Clock, tls: ssl.SSLContext | None = None
    ) -> None:
        self._name = name
        self._config = config
        self._key = key
        self._clock = clock
        self._tls = tls
        self._base_url = config.base_url or PUBLIC_BASE_URL
        self._dialect = dialect_of(self._base_url)
        self._client: openai.AsyncOpenAI | None = None
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
        call = StreamCall(
            provider=self._name,
            opener=lambda: self._open(request),
            make_reader=ChunkReader,
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

    async def _ready(self) -> "openai.AsyncOpenAI":
        async with self._making:
            if self._client is None:
                self._client = await asyncio.to_thread(self._make_client)
            return self._client

    def _make_client(self) -> "openai.AsyncOpenAI":
        import openai  # noqa: PLC0415 - imported at the first call: see the module's docstring

        options = client_options(self._config, self._tls)
        client = openai.AsyncOpenAI(
            api_key=self._secret or _NO_KEY,
            base_url=self._base_url,
            max_retries=0,
            timeout=options.timeout,
            http_client=openai.DefaultAsyncHttpxClient(**options.client),
        )
        # The SDK takes these from an environment that need not be this provider's.
        client.organization = client.project = None
        return client

    @asynccontextmanager
    async def _open(self, request: ModelRequest) -> AsyncIterator[Answer]:
        """The answer to ``request``; where a server refuses a field that it calls by another name, asked once more."""
        for _ in range(_MAX_ADAPTATIONS):
            dialect, opened = self._dialect, False
            try:
                async with self._ask(request_body(request, dialect)) as answer:
                    opened = True
                    yield answer
                    return
            except UpstreamError as error:
                adapted = _adapt(dialect, error.message) if error.status in (400, 422) and not opened else None
                if adapted is None:
                    raise
                self._dialect = adapted
        async with self._ask(request_body(request, self._dialect)) as answer:
            yield answer

    @asynccontextmanager
    async def _ask(self, body: dict[str, Any]) -> AsyncIterator[Answer]:
        client = await self._ready()
        import openai  # noqa: PLC0415 - loaded by now

        model, messages = body.pop("model"), body.pop("messages")
        try:
            async with client.chat.completions.with_streaming_response.create(
                model=model, messages=messages, stream=True, extra_body=body
            ) as response:
                whole = response.headers.get("content-type", "").startswith("application/json")
                yield Answer(response.iter_bytes(), response.headers.get("x-request-id"), whole=whole)
        except openai.APIStatusError as error:
            raise status_error(
                self._name,
                status=error.status_code,
                body=error.body,
                headers=error.response.headers,
                secret=self._secret,
                now=self._clock.now(),
            ) from None
        except openai.APIConnectionError as error:
            raise connection_error(self._name, reason=type(error.__cause__ or error).__name__) from None
        except transport_errors() as error:
            raise connection_error(self._name, reason=type(error).__name__) from None


def _adapt(dialect: Dialect, complaint: str) -> Dialect | None:
    """The dialect of a server that complains about a field by name."""
    if "stream_options" in complaint and dialect.ask_usage:
        return replace(dialect, ask_usage=False)
    if dialect.limit_field == "max_tokens" and "max_completion_tokens" in complaint:
        return replace(dialect, limit_field="max_completion_tokens")
    if dialect.limit_field == "max_completion_tokens" and "max_completion_tokens" in complaint:
        return replace(dialect, limit_field="max_tokens")
    return None
