"""What a model provider is to the rest of Carrel."""

from collections.abc import AsyncIterator
from typing import Protocol

from carrel.wire.conversation import ModelRequest, ProviderEvent


class Provider(Protocol):
    """One configured provider with its key. An adapter turns its vendor's exceptions into UpstreamError."""

    @property
    def name(self) -> str:
        """The name it is declared under."""
        ...

    def stream(self, request: ModelRequest) -> AsyncIterator[ProviderEvent]:
        """The answer piece by piece, ending in one Finished.

        Retries happen inside, before the first piece only. Raises UpstreamError or UpstreamTimeout. Closing the
        iterator early cancels the call upstream.
        """
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...
