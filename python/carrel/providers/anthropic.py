"""Anthropic's Messages API, and servers that speak it.

The SDK makes the request and reports its errors; the answer's bytes are read by our own reader.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

from carrel.providers.call import Answer
from carrel.providers.connections import client_options
from carrel.providers.sdk import NO_KEY, SdkProvider
from carrel.wire.anthropic_messages import EventReader, request_body
from carrel.wire.conversation import ModelRequest, ProviderEvent

if TYPE_CHECKING:
    import anthropic

PUBLIC_BASE_URL: Final = "https://api.anthropic.com"


class AnthropicProvider(SdkProvider["anthropic.AsyncAnthropic"]):
    """Anthropic, or a server that speaks its dialect, with one key."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ProviderEvent, None]:
        """The answer piece by piece; see `providers.protocol`."""
        request_body(request)  # what cannot be said in this dialect is refused before anything is opened
        async with aclosing(self._events(lambda: self._ask(request), EventReader)) as events:
            async for event in events:
                yield event

    def _older_header(self) -> dict[str, str]:
        """Servers that took the dialect over look for the key where Anthropic's API first had it."""
        return {"X-Api-Key": self._secret} if self._config.base_url and self._secret else {}

    def _make_client(self) -> "anthropic.AsyncAnthropic":
        import anthropic  # noqa: PLC0415 - imported at the first call: see `providers.sdk`

        options = client_options(self._config, self._tls)
        return anthropic.AsyncAnthropic(
            api_key=self._secret or NO_KEY,
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
        with self._failures(anthropic):
            async with client.messages.with_streaming_response.create(
                model=model, messages=messages, max_tokens=limit, stream=True, extra_body=body
            ) as response:
                yield Answer(response.iter_bytes(), response.headers.get("request-id"))
