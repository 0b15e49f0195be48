"""One call on its way: opened upstream, its answer passed on as it comes, its row written before the answer's end."""

import asyncio
import contextlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog

from carrel.clock import Clock
from carrel.declare.rate_card import TokenCounts
from carrel.errors import CarrelError, StorageFailed, UpstreamAuth, UpstreamError, UpstreamTimeout
from carrel.ids import RequestId
from carrel.policy.calls import Outcome, Reservation
from carrel.policy.estimate import filled
from carrel.providers.failures import status_error
from carrel.providers.retry import may_retry, with_retries
from carrel.relay.answer import Answer, Caller, CallerGone
from carrel.relay.connection import Connection
from carrel.relay.dialects.protocol import UNBOUNDED, CallFields, Outgoing
from carrel.relay.framing import Head
from carrel.relay.observe import Seen
from carrel.relay.said import prompt_tokens
from carrel.relay.targets import Target

_log = structlog.get_logger(__name__)
WHOLE_BYTES: Final = 1 << 20
"""An answer up to this length is read whole before it is passed on; a longer one is passed on as it comes."""
END_BYTES: Final = 64 << 10
ERROR_BYTES: Final = 64 << 10


@dataclass(slots=True)
class Passage:
    """One call. ``more`` are header lines for the vendor, ``max_input`` is the most tokens that its prompt can have."""

    caller: Caller
    request_id: RequestId
    target: Target
    fields: CallFields
    outgoing: Outgoing
    more: bytes
    reservation: Reservation
    clock: Clock
    stall_seconds: float
    max_input: int
    provider_request_id: str = ""
    deadline: float = 0.0

    async def run(self) -> Answer:
        """Make the call. Raises CarrelError before the answer's first byte, never after it."""
        self.deadline = asyncio.get_running_loop().time() + self.target.config.timeout_seconds
        try:
            try:
                connection, head = await self._attempt()
            except UpstreamError as error:
                connection, head = await self._again(error)
        except asyncio.CancelledError:
            await self._settle(Seen(), "cancelled", estimate=0)
            raise
        except CarrelError as error:
            seen = Seen() if isinstance(error, UpstreamTimeout) else Seen(TokenCounts())
            with contextlib.suppress(StorageFailed):
                await self._settle(seen, "error", estimate=0)
            raise
        try:
            self.provider_request_id = head.headers.get("x-request-id") or head.headers.get("request-id", "")
            kind = head.headers.get("content-type", "application/json")
            if kind.lower().startswith("text/event-stream"):
                return await self._stream(connection, self._answer(head, kind))
            return await self._whole(connection, head, self._answer(head, kind))
        finally:
            self.target.pool.give_back(connection)

    def _answer(self, head: Head, kind: str) -> Answer:
        return Answer(
            self.caller, status=head.status, content_type=kind, request_id=self.request_id,
            provider_request_id=self.provider_request_id, stall_seconds=self.stall_seconds,
        )  # fmt: skip

    # --- opening ---

    async def _again(self, error: UpstreamError) -> tuple[Connection, Head]:
        """What `_attempt` gives, tried again after ``error`` where that may help."""
        retries = self.target.config.max_retries
        if not retries or not may_retry(error):
            raise error
        failed = [error]

        async def again() -> tuple[Connection, Head]:
            if failed:
                raise failed.pop()
            return await self._attempt()

        left = self.deadline - asyncio.get_running_loop().time()
        return await with_retries(
            again, max_retries=retries, clock=self.clock, deadline=self.clock.monotonic() + left,
            provider=self.target.name,
        )  # fmt: skip

    async def _attempt(self) -> tuple[Connection, Head]:
        """A connection with a good answer's head on it."""
        pool = self.target.pool
        quiet = self.target.config.first_byte_seconds
        fresh = False
        while True:
            connection = None if fresh else pool.take_idle()
            if connection is None:
                limit = min(self.deadline, asyncio.get_running_loop().time() + quiet)
                connection = await pool.take(deadline=limit, fresh=fresh)
            kept = connection.used
            body = self.outgoing.body
            head_bytes = b"%b%d\r\n%b\r\n" % (self.target.head, len(body), self.more)
            connection.begin(head_bytes, body, deadline=self.deadline, quiet=quiet)
            try:
                head = await connection.head()
                if 200 <= head.status < 300:
                    if head.headers.get("content-encoding", "identity").lower() != "identity":
                        raise UpstreamError(f"Provider {self.target.name!r} compressed its answer without being asked.")
                    return connection, head
                error = await self._refusal(connection, head)
            except UpstreamTimeout:
                pool.give_back(connection)
                raise
            except UpstreamError:
                silent = connection.silent
                pool.give_back(connection)
                if kept and silent:
                    # An idle connection that the other side closed as we wrote: it has seen nothing of this call.
                    fresh = True
                    continue
                raise
            except BaseException:
                pool.give_back(connection)
                raise
            pool.give_back(connection)
            if error is None:
                continue
            raise error

    async def _refusal(self, connection: Connection, head: Head) -> UpstreamError | None:
        """The error in an answer that is none; None where the call is made again without what was spliced into it."""
        body = b""
        while len(body) < ERROR_BYTES and (piece := await connection.read()):
            body += piece
        if head.status == 400 and self.outgoing.hides_usage and b"stream_options" in body:
            self.target.takes_stream_options = False
            self.outgoing = Outgoing(self.outgoing.plain, self.outgoing.plain, hides_usage=False)
            return None
        return _status_error(self.target, head, body, now=self.clock.now())

    # --- passing on ---

    async def _whole(self, connection: Connection, head: Head, answer: Answer) -> Answer:
        """Pass on an answer that is no stream."""
        pieces: list[bytes] = []
        size = 0
        try:
            while True:
                # What is here already is taken without a wait: most answers are here whole by now.
                piece = connection.taken()
                if piece is None:
                    piece = await connection.read()
                if not piece:
                    break
                pieces.append(piece)
                size += len(piece)
                if size > WHOLE_BYTES:
                    return await self._long(connection, head, answer, b"".join(pieces))
        except asyncio.CancelledError:
            await self._settle(Seen(), "cancelled", estimate=self.fields.estimated_output(b"".join(pieces), size))
            raise
        except UpstreamError:
            with contextlib.suppress(StorageFailed):
                await self._settle(Seen(), "cut", estimate=self.fields.estimated_output(b"".join(pieces), size))
            raise
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        seen = self.fields.seen_in(body)
        estimate = 0 if seen.whole else self.fields.estimated_output(body, size, counted=seen.counts is not None)
        await self._settle(seen, "error" if seen.error else "ok", estimate=estimate)
        body = self.fields.passed(body)
        answer.begin(length=len(body))
        with contextlib.suppress(CallerGone):
            answer.finish(body)
        return answer

    async def _long(
        self, connection: Connection, head: Head, answer: Answer, front: bytes
    ) -> Answer:  # fmt: skip
        """Pass on a long answer as it comes, all but its last bytes."""
        size = len(front)
        held = front[-END_BYTES:]
        outcome: Outcome = "ok"
        try:
            answer.begin(length=head.length)
            await answer.send(front[:-END_BYTES])
            while piece := await connection.read():
                size += len(piece)
                data = held + piece
                held = data[-END_BYTES:]
                await answer.send(data[: len(data) - len(held)])
        except asyncio.CancelledError:
            await self._settle(Seen(), "cancelled", estimate=self.fields.estimated_output(front, size))
            raise
        except (UpstreamError, CallerGone) as error:
            outcome = "cut" if isinstance(error, UpstreamError) else "cancelled"
        seen = self.fields.seen_in_ends(front[:END_BYTES], held)
        estimate = self.fields.estimated_output(front, size, counted=seen.counts is not None)
        try:
            await self._settle(seen, outcome, estimate=estimate)
        except StorageFailed:
            outcome = "cut"
        with contextlib.suppress(CallerGone):
            if outcome == "ok":
                answer.finish(held)
            else:
                answer.cut()
        return answer

    async def _stream(self, connection: Connection, answer: Answer) -> Answer:
        """Pass on a stream, its events as they come, its end after the row."""
        observer = self.fields.observer(hide_usage=self.outgoing.hides_usage)
        outcome: Outcome = "ok"
        failure: CarrelError | None = None
        try:
            answer.begin(more="Cache-Control: no-cache\r\n")
            while data := await connection.read():
                await answer.send(observer.feed(data))
                if observer.done:
                    break
            await answer.send(observer.finish())
            if not (observer.done or observer.finished or observer.seen.error):
                failure = UpstreamError(f"Provider {self.target.name!r} ended its stream before the answer's end.")
        except asyncio.CancelledError:
            await self._settle(observer.seen, "cancelled", estimate=observer.estimated_output())
            raise
        except CallerGone:
            outcome = "cancelled"
        except UpstreamError as error:
            failure = error
        if failure is not None:
            outcome = "cut"
        elif observer.seen.error and outcome == "ok":
            outcome = "error"
        try:
            await self._settle(
                observer.seen, outcome, estimate=0 if observer.seen.whole else observer.estimated_output()
            )  # fmt: skip
        except StorageFailed as error:
            failure = failure or error
        return await self._end(answer, observer.held, outcome, failure)

    async def _end(
        self, answer: Answer, held: bytes, outcome: Outcome, failure: CarrelError | None
    ) -> Answer:  # fmt: skip
        if failure is not None and not answer.started:
            raise failure
        with contextlib.suppress(CallerGone):
            if failure is not None:
                _log.warning("stream cut", request_id=self.request_id, reason=failure.message)
                answer.cut(self.fields.error_event(failure.code, failure.message))
            elif outcome == "cancelled":
                answer.cut()
            else:
                answer.finish(held)
        return answer

    def _prompt_tokens(self) -> int:
        images = self.fields.images if self.fields.images < UNBOUNDED else 0
        return prompt_tokens(self.outgoing.plain, images=images, most=self.max_input)

    async def _settle(self, seen: Seen, outcome: Outcome, *, estimate: int) -> None:
        counts, estimated = seen.counts, seen.open_ended
        if not self.fields.generates:
            estimate = 0
        if counts is not None and seen.open_ended:
            counts = replace(counts, output=max(counts.output, estimate))
        # A vendor that has counted all is the usual case: the body is not looked through for what nobody asks.
        if counts is None or not (outcome == "error" or (counts.prompt and not estimate)):
            counts, unsaid = filled(counts, prompt=self._prompt_tokens(), output=estimate, served=seen.served)
            estimated = estimated or unsaid
        await self.reservation.settle(
            counts, outcome=outcome, provider_request_id=self.provider_request_id or None,
            tool_calls=seen.tool_calls, estimated=estimated,
        )  # fmt: skip
        if self.fields.written is not None and outcome == "ok":
            await self.fields.written()


def _status_error(target: Target, head: Head, body: bytes, *, now: datetime) -> UpstreamError:
    try:
        said: object = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    error = status_error(
        target.name, status=head.status, body=said, headers=head.headers, secret=target.secret, now=now
    )  # fmt: skip
    if isinstance(error, UpstreamAuth):
        return error
    inner = said.get("error") if isinstance(said, dict) else None
    if isinstance(inner, dict):
        for name in ("type", "code", "param"):
            if isinstance(inner.get(name), str):
                error.details[f"upstream_{name}"] = inner[name][:128]
    return error
