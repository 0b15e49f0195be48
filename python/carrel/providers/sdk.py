"""What an adapter over a vendor's SDK is made of, whoever the vendor is.

The SDK is imported and its client made at the first call, in a thread: neither a start nor the loop pays for it.
"""

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final, Generic, Protocol, TypeVar

from carrel.clock import Clock
from carrel.declare.gateway import ProviderConfig
from carrel.providers.call import Limits, Opener, Reader, StreamCall
from carrel.providers.connections import transport_errors
from carrel.providers.failures import connection_error, status_error
from carrel.secrets import Secret
from carrel.wire.conversation import ProviderEvent

NO_KEY: Final = "none"
"""What an SDK that insists on a key is given where the server wants none."""


class Closes(Protocol):
    """An SDK's client."""

    async def close(self) -> None:
        """Give its connections back."""
        ...


C = TypeVar("C", bound=Closes)


class SdkProvider(ABC, Generic[C]):
    """A vendor, or a server that speaks its dialect, with one key."""

    def __init__(
        self, name: str, config: ProviderConfig, *, key: Secret | None, clock: Clock, tls: ssl.SSLContext | None = None
    ) -> None:
        self._name = name
        self._config = config
        self._key = key
        self._clock = clock
        self._tls = tls
        self._client: C | None = None
        self._making = asyncio.Lock()

    @property
    def name(self) -> str:
        return self._name

    async def close(self) -> None:
        """Give connections back. Calls under way end with an error."""
        if self._client is not None:
            await self._client.close()

    @abstractmethod
    def _make_client(self) -> C:
        """The SDK's client. It blocks: run in a thread."""

    async def _ready(self) -> C:
        async with self._making:
            if self._client is None:
                self._client = await asyncio.to_thread(self._make_client)
            return self._client

    @property
    def _secret(self) -> str:
        return self._key.reveal() if self._key is not None else ""

    async def _events(self, opener: Opener, make_reader: type[Reader]) -> AsyncGenerator[ProviderEvent, None]:
        """The answer that ``opener`` opens, piece by piece; see `providers.protocol`."""
        call = StreamCall(
            provider=self._name,
            opener=opener,
            make_reader=make_reader,
            limits=Limits(self._config.timeout_seconds, self._config.first_byte_seconds, self._config.max_retries),
            clock=self._clock,
            secret=self._secret,
        )
        async with aclosing(call.events()) as events:
            async for event in events:
                yield event

    @contextmanager
    def _failures(self, sdk: Any) -> Iterator[None]:
        """What the SDK (the module ``sdk``) and its HTTP client raise, as our own errors."""
        try:
            yield
        except sdk.APIStatusError as error:
            raise status_error(
                self._name,
                status=error.status_code,
                body=error.body,
                headers=error.response.headers,
                secret=self._secret,
                now=self._clock.now(),
            ) from None
        except sdk.APIConnectionError as error:
            raise connection_error(self._name, reason=type(error.__cause__ or error).__name__) from None
        except transport_errors() as error:
            raise connection_error(self._name, reason=type(error).__name__) from None
