"""A list of models to try in order: the next is asked only where the one before failed without saying anything."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import structlog

from carrel.errors import UpstreamError
from carrel.wire.conversation import ModelRequest, ProviderEvent

_log = structlog.get_logger(__name__)


class Streaming(Protocol):
    """What a candidate needs: a provider whose stream can be closed."""

    @property
    def name(self) -> str:
        """The provider's name."""
        ...

    def stream(self, request: ModelRequest) -> AsyncGenerator[ProviderEvent, None]:
        """See `providers.protocol`."""
        ...


@dataclass(frozen=True, slots=True)
class Answering:
    """The candidate at ``index`` answers; comes once, before its first event. ``failures`` are those before it."""

    index: int
    failures: tuple[UpstreamError, ...]


async def stream_with_fallbacks(
    candidates: Sequence[tuple[Streaming, ModelRequest]],
) -> AsyncGenerator[Answering | ProviderEvent, None]:
    """The first candidate's answer that begins. Raises the last candidate's error where none does.

    Once an event was given the answer is never begun again: a failure after it is raised as it is.
    """
    if not candidates:
        raise ValueError("no candidate to ask")
    failures: list[UpstreamError] = []
    for index, (provider, request) in enumerate(candidates):
        begun = False
        try:
            async with aclosing(provider.stream(request)) as events:
                async for event in events:
                    if not begun:
                        begun = True
                        yield Answering(index, tuple(failures))
                    yield event
            return
        except UpstreamError as error:
            if begun or index == len(candidates) - 1:
                raise
            failures.append(error)
            _log.warning("falling back to the next model", provider=provider.name, model=request.model)
