"""One streaming call of an HTTP provider: opened with retries, read within its deadlines, given back as events.

What is the same for every vendor is here; an adapter brings how its answer is opened and the reader of its dialect.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from carrel.clock import Clock
from carrel.errors import UpstreamError, UpstreamTimeout
from carrel.providers.failures import clean_message
from carrel.providers.retry import with_retries
from carrel.wire.conversation import Finished, ProviderEvent
from carrel.wire.sse import ServerSentEvent, SseDecoder

MAX_WHOLE_ANSWER_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The deadlines of one call in seconds, all its tries together, and how many tries may follow the first."""

    timeout_seconds: float
    first_byte_seconds: float
    max_retries: int


@dataclass(frozen=True, slots=True)
class Answer:
    """An open answer of a vendor. ``chunks`` raises our errors only; ``whole``: one JSON text and no event stream."""

    chunks: AsyncIterator[bytes]
    request_id: str | None
    whole: bool = False


class Reader(Protocol):
    """A dialect's reader: `openai_upstream.ChunkReader`, `anthropic_messages.EventReader`."""

    begun: bool

    def read(self, record: Mapping[str, Any]) -> list[ProviderEvent]:
        """The events of one record."""
        ...

    def finish(self, *, done: bool) -> Finished:
        """The end; raises where the answer is not whole."""
        ...


Opener = Callable[[], AbstractAsyncContextManager[Answer]]


class _Reading:
    """One open answer being read: bytes to records to events."""

    def __init__(self, call: "StreamCall", answer: Answer) -> None:
        self.answer = answer
        self.reader = call.make_reader()
        self.done = False
        self._call = call
        self._decoder = SseDecoder()
        self._whole = bytearray()
        self.ended = False

    async def step(self) -> list[ProviderEvent]:
        """The events of the next bytes; sets ``ended`` at the last."""
        chunk = await anext(self.answer.chunks, None)
        if chunk is None:
            self.ended = True
        if self.answer.whole:
            return self._whole_answer(chunk)
        events: list[ProviderEvent] = []
        for event in self._decoder.finish() if chunk is None else self._decoder.feed(chunk):
            events += self._record(event)
        return events

    def _record(self, event: ServerSentEvent) -> list[ProviderEvent]:
        if self.done or not event.data.strip():
            return []
        if event.data.strip() == "[DONE]":
            self.done = True
            return []
        record = self._parse(event.data)
        self.done = record.get("type") == "message_stop"
        return self._call.read(self.reader, record)

    def _whole_answer(self, chunk: bytes | None) -> list[ProviderEvent]:
        if chunk is not None:
            self._whole += chunk
            if len(self._whole) > MAX_WHOLE_ANSWER_BYTES:
                raise self._call.broken("sent an answer that is too large")
            return []
        self.done = True
        return self._call.read(self.reader, self._parse(self._whole.decode("utf-8", "replace")))

    def _parse(self, text: str) -> Mapping[str, Any]:
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise self._call.broken("sent something that is not its wire format")
        return record


@dataclass(frozen=True, slots=True)
class StreamCall:
    """One call: ``opener`` makes the request anew at each try, ``make_reader`` a reader for its answer."""

    provider: str
    opener: Opener
    make_reader: Callable[[], Reader]
    limits: Limits
    clock: Clock
    secret: str = ""

    async def events(self) -> AsyncGenerator[ProviderEvent, None]:
        """The answer; closing the iterator closes the connection of an answer that is not at its end."""
        started = self.clock.monotonic()
        first = started + min(self.limits.first_byte_seconds, self.limits.timeout_seconds)
        whole = started + self.limits.timeout_seconds
        begun = False
        try:
            async with AsyncExitStack() as stack:
                reading, events = await with_retries(
                    lambda: self._open(stack, first, whole),
                    max_retries=self.limits.max_retries,
                    clock=self.clock,
                    deadline=first,
                    provider=self.provider,
                )
                begun = True
                while True:
                    for event in events:
                        yield event
                    if reading.ended:
                        break
                    events = await self._step(reading, whole)
                finished = self._finish(reading)
        except UpstreamError as error:
            if begun and error.details.get("reason") == "connection":
                raise self.broken("closed the connection in the middle") from None
            raise
        yield replace(finished, provider_request_id=reading.answer.request_id or finished.provider_request_id)

    async def _open(self, stack: AsyncExitStack, first: float, whole: float) -> tuple[_Reading, list[ProviderEvent]]:
        """One try, up to the first record that is no error; its answer is then ``stack``'s to close."""
        async with AsyncExitStack() as attempt:
            reading, events = await self._begin(attempt, first, whole)
            stack.push_async_exit(attempt.pop_all())
        return reading, events

    async def _begin(self, attempt: AsyncExitStack, first: float, whole: float) -> tuple[_Reading, list[ProviderEvent]]:
        try:
            async with asyncio.timeout(first - self.clock.monotonic()):
                answer = await attempt.enter_async_context(self.opener())
                reading = _Reading(self, answer)
                events = await reading.step()
        except TimeoutError:
            raise self.late(f"sent nothing within {self.limits.first_byte_seconds:g} s") from None
        while not reading.reader.begun and not reading.ended:
            events = await self._step(reading, whole)
        if not reading.reader.begun:
            raise UpstreamError(
                f"Provider {self.provider!r} closed the answer without any content.",
                retryable=True,
                details={"reason": "connection"},
            )
        return reading, events

    async def _step(self, reading: _Reading, whole: float) -> list[ProviderEvent]:
        try:
            async with asyncio.timeout(whole - self.clock.monotonic()):
                return await reading.step()
        except TimeoutError:
            raise self.late(f"did not end its answer within {self.limits.timeout_seconds:g} s") from None

    def _finish(self, reading: _Reading) -> Finished:
        try:
            return reading.reader.finish(done=reading.done)
        except UpstreamError:
            raise self.broken("ended its stream before the answer's end") from None

    def read(self, reader: Reader, record: Mapping[str, Any]) -> list[ProviderEvent]:
        """What ``record`` says; an error in it is named for this provider and freed of keys."""
        try:
            return reader.read(record)
        except UpstreamError as error:
            said = clean_message(error.message, secret=self.secret)
            raise UpstreamError(
                f"Provider {self.provider!r} reported an error: {said}",
                status=error.status,
                retryable=error.retryable and not reader.begun,
                details=error.details,
            ) from None

    def broken(self, what: str) -> UpstreamError:
        """The error for an answer that cannot be read on."""
        return UpstreamError(f"Provider {self.provider!r} {what}; the answer was cut.", details={"reason": "cut"})

    def late(self, what: str) -> UpstreamTimeout:
        """The error for a deadline that ran out."""
        return UpstreamTimeout(f"Provider {self.provider!r} {what}.")
