"""Changes of the control plane: done once for each idempotency key, and on condition that a tenant is as it was seen.

A change that its caller leaves behind goes on to its end, so that its answer is there when the caller asks again.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from weakref import WeakValueDictionary

from aiohttp import web

from carrel.clock import Clock
from carrel.errors import CarrelError, Conflict, InvalidRequest
from carrel.http.exchange import Exchange
from carrel.ids import TenantId
from carrel.store.once import KeyReused, Once
from carrel.tasks import Tasks

KEY: Final = "Idempotency-Key"
MOST_KEY: Final = 128
MOST_BODY: Final = 4 << 20
_NOT_KEPT: Final = "null"
Handler = Callable[[Exchange], Awaitable[web.StreamResponse]]
Matched = Callable[[Exchange], Awaitable[str | None]]
"""Tells the ETag of what a change is of, as it is now; None where there is no such thing yet."""


class PreconditionFailed(Conflict):
    """What is to be changed is not as the caller has seen it."""

    code = "precondition_failed"


class OutcomeUnknown(Conflict):
    """A gateway died in the middle of a change; whether it was made nobody knows."""

    code = "outcome_unknown"


class Keys(Protocol):
    """Keeps what was done under which key."""

    async def begin(self, who: str, key: str, digest: str, *, now: datetime) -> Once: ...
    async def finish(self, who: str, key: str, answer: str) -> None: ...
    async def forget(self, who: str, key: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    text: str
    etag: str | None
    again: bool = False

    def response(self) -> web.Response:
        """The answer as it is sent: each caller gets one of its own."""
        kind = "application/json" if self.text else None
        response = web.Response(status=self.status, text=self.text or None, content_type=kind)
        if self.etag is not None:
            response.headers["ETag"] = self.etag
        if self.again:
            response.headers["Idempotent-Replayed"] = "true"
        return response


@dataclass(frozen=True, slots=True)
class Kind:
    """What sort of change it is.

    ``secret``: its answer is not kept. ``declares``: it is about what is declared of a tenant, and waits for others
    that are; so does one of a thing that ``matched`` tells the ETag of.
    """

    secret: bool = False
    declares: bool = False
    matched: Matched | None = None


@dataclass(frozen=True, slots=True)
class _Running:
    digest: str
    task: "asyncio.Task[_Answer | CarrelError]"


class Changes:
    """Orders the changes of one gateway's tenants. One instance, made by the composition root."""

    def __init__(self, *, keys: Keys, clock: Clock, tasks: Tasks) -> None:
        self._keys = keys
        self._clock = clock
        self._tasks = tasks
        self._running: dict[tuple[str, str], _Running] = {}
        self._locks: WeakValueDictionary[TenantId, asyncio.Lock] = WeakValueDictionary()

    async def make(self, exchange: Exchange, handler: Handler, kind: Kind) -> web.StreamResponse:
        """The answer of ``handler``, now or from before.

        Raises KeyReused, PreconditionFailed, OutcomeUnknown, and whatever the change itself is refused with.
        """
        key = _key(exchange)
        if key is None:
            return await self._made(exchange, handler, kind)
        who = exchange.actor.name
        digest = await _digest(exchange)
        running = self._running.get((who, key))
        if running is not None and running.digest != digest:
            raise KeyReused("That idempotency key is in use for another change; take a new one for each change.")
        if running is None:
            work = self._outcome(exchange, handler, (who, key), digest, kind)
            running = self._running[who, key] = _Running(digest, self._tasks.start(work, name="keyed change"))
            running.task.add_done_callback(lambda _: self._running.pop((who, key), None))
        outcome = await asyncio.shield(running.task)
        if isinstance(outcome, CarrelError):
            raise outcome
        return outcome.response()

    async def _outcome(
        self, exchange: Exchange, handler: Handler, place: tuple[str, str], digest: str, kind: Kind
    ) -> _Answer | CarrelError:
        who, key = place
        try:
            once = await self._keys.begin(who, key, digest, now=self._clock.now())
            if once.state == "done":
                return _kept(once.answer)
            if once.state == "again":
                return OutcomeUnknown(
                    "A change was begun under that key by a gateway that died: look whether it was made, then go on "
                    "under another key."
                )
            try:
                response = await self._made(exchange, handler, kind)
            except CarrelError as error:
                await self._keys.forget(who, key)
                return error
            answer = _Answer(response.status, _text(response), response.headers.get("ETag"))
            kept = {"status": answer.status, "text": answer.text, "etag": answer.etag}
            await self._keys.finish(who, key, _NOT_KEPT if kind.secret else json.dumps(kept))
        except CarrelError as error:
            return error
        return answer

    async def _made(self, exchange: Exchange, handler: Handler, kind: Kind) -> web.StreamResponse:
        async with self._in_turn(exchange, kind):
            await check(exchange, kind.matched)
            return await handler(exchange)

    def _in_turn(self, exchange: Exchange, kind: Kind) -> AbstractAsyncContextManager[object]:
        """One change of a tenant at a time, so that none comes between another's condition and what it writes.

        Only those that are about what is declared: a backup, a command or a conversation takes its time.
        """
        named = exchange.request.match_info.get("id")
        waits = kind.declares or kind.matched is not None or "If-Match" in exchange.request.headers
        if named is None or not waits:
            return nullcontext()
        return self._locks.setdefault(exchange.subject().id, asyncio.Lock())


async def check(exchange: Exchange, matched: Matched | None = None) -> None:
    """Raise PreconditionFailed where `If-Match` names neither the tenant's revision nor what ``matched`` tells.

    What is of no tenant has no ETag, and a condition on one does not hold: RFC 9110, 13.1.1. Where ``matched`` tells of
    something, `If-None-Match: *` is refused: it is there already.
    """
    headers = exchange.request.headers
    tags, new_only = _tags(headers.getall("If-Match", [])), _tags(headers.getall("If-None-Match", []))
    if not tags and (not new_only or matched is None):
        return
    if "id" not in exchange.request.match_info:
        raise PreconditionFailed(
            "Nothing was done: what this changes is of no one tenant and has no ETag, so `If-Match` cannot hold. Leave "
            "it out."
        )
    own = await matched(exchange) if matched is not None else None
    if new_only and ("*" in new_only or own in new_only) and own is not None:
        raise PreconditionFailed("It is there already: change it with `If-Match`.", details={"etag": f'"{own}"'})
    revision = exchange.latest_subject().revision
    # What is declared has ETags that begin with the revision that it is of: see `with_etag`.
    if not tags or revision in {tag.partition(".")[0] for tag in tags} or own in tags:
        return
    if "*" not in tags or (matched is not None and own is None):
        now = own if own is not None else revision
        raise PreconditionFailed("It has changed: get it anew, then change it.", details={"etag": f'"{now}"'})


def _tags(lines: Sequence[str]) -> set[str]:
    """The ETags in a header's ``lines``, without what is around them; `*` is any."""
    return {tag.strip().removeprefix("W/").strip('"') for line in lines for tag in line.split(",")}


def with_etag(exchange: Exchange, response: web.StreamResponse) -> web.StreamResponse:
    """``response`` to a GET with its ETag; 304 where `If-None-Match` has it."""
    if not isinstance(response, web.Response) or response.status != 200 or not isinstance(response.body, bytes):
        return response
    digest = hashlib.sha256(response.body).hexdigest()[:32]
    told = f"{exchange.subject().revision}.{digest}" if "id" in exchange.request.match_info else digest
    tag = response.headers.get("ETag") or f'"{told}"'
    known = {t.strip().removeprefix("W/") for t in exchange.request.headers.get("If-None-Match", "").split(",")}
    if tag in known or "*" in known:
        return web.Response(status=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return response


def _key(exchange: Exchange) -> str | None:
    given = exchange.request.headers.getall(KEY, [])
    if not given:
        return None
    if len(given) > 1 or not 1 <= len(given[0]) <= MOST_KEY or not (given[0].isascii() and given[0].isprintable()):
        raise InvalidRequest(f"`{KEY}` is one of 1 to {MOST_KEY} printable characters.")
    return given[0]


async def _digest(exchange: Exchange) -> str:
    """What makes two changes the same one; only this is kept of what a change was asked for with."""
    request = exchange.request
    body = await exchange.body(limit=MOST_BODY)
    conditions = (request.headers.get("If-Match", ""), request.headers.get("If-None-Match", ""))
    head = "\0".join((request.method, request.raw_path, *conditions))
    return hashlib.sha256(head.encode("utf-8", "surrogateescape") + b"\0" + body).hexdigest()


def _kept(answer: str) -> _Answer | CarrelError:
    if answer == _NOT_KEPT:
        return Conflict("This was done under that idempotency key already, and its answer is shown once only.")
    kept = json.loads(answer)
    return _Answer(kept["status"], kept["text"], kept["etag"], again=True)


def _text(response: web.StreamResponse) -> str:
    body = response.body if isinstance(response, web.Response) else None
    return body.decode() if isinstance(body, bytes) else ""
