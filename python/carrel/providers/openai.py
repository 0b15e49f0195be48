"""OpenAI, and every server that speaks its chat completions: Llama, Mistral, Kimi, Ollama, vLLM and others.

The SDK makes the request and reports its errors; the answer's bytes are read by our own reader, which has limits and
knows the ways in which compatible servers differ.
"""

import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from carrel.clock import Clock
from carrel.declare.gateway import ProviderConfig
from carrel.errors import UpstreamError
from carrel.providers.call import Answer
from carrel.providers.connections import client_options
from carrel.providers.sdk import NO_KEY, SdkProvider
from carrel.secrets import Secret
from carrel.wire.conversation import ModelRequest, ProviderEvent
from carrel.wire.openai_upstream import ChunkReader, Dialect, request_body

if TYPE_CHECKING:
    import openai

PUBLIC_BASE_URL: Final = "https://api.openai.com/v1"
_MAX_ADAPTATIONS: Final = 2
_RENAMED_LIMIT_HOSTS: Final = ("api.openai.com", ".openai.azure.com")


def dialect_of(base_url: str) -> Dialect:
    """What is known of a server by its address: OpenAI itself renamed the output limit, others kept the old name."""
    host = urlsplit(base_url).hostname or ""
    renamed = any(host == h or (h.startswith(".") and host.endswith(h)) for h in _RENAMED_LIMIT_HOSTS)
    return Dialect(limit_field="max_completion_tokens" if renamed else "max_tokens")


class OpenAIProvider(SdkProvider["openai.AsyncOpenAI"]):
    """One OpenAI-compatible server with one key."""

    def __init__(
        self, name: str, config: ProviderConfig, *, key: Secret | None, clock: Clock, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(name, config, key=key, clock=clock, tls=tls)
        self._base_url = config.base_url or PUBLIC_BASE_URL
        self._dialect = dialect_of(self._base_url)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ProviderEvent, None]:
        """The answer piece by piece; see `providers.protocol`."""
        async with aclosing(self._events(lambda: self._open(request), ChunkReader)) as events:
            async for event in events:
                yield event

    def _make_client(self) -> "openai.AsyncOpenAI":
        import openai  # noqa: PLC0415 - imported at the first call: see `providers.sdk`

        options = client_options(self._config, self._tls)
        client = openai.AsyncOpenAI(
            api_key=self._secret or NO_KEY,
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
        with self._failures(openai):
            async with client.chat.completions.with_streaming_response.create(
                model=model, messages=messages, stream=True, extra_body=body
            ) as response:
                whole = response.headers.get("content-type", "").startswith("application/json")
                yield Answer(response.iter_bytes(), response.headers.get("x-request-id"), whole=whole)


def _adapt(dialect: Dialect, complaint: str) -> Dialect | None:
    """The dialect of a server that complains about a field by name."""
    if "stream_options" in complaint and dialect.ask_usage:
        return replace(dialect, ask_usage=False)
    if dialect.limit_field == "max_tokens" and "max_completion_tokens" in complaint:
        return replace(dialect, limit_field="max_completion_tokens")
    if dialect.limit_field == "max_completion_tokens" and "max_completion_tokens" in complaint:
        return replace(dialect, limit_field="max_tokens")
    return None
