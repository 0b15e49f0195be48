"""An answer said in its caller's dialect, whole or as a stream, from a model's events or an agent's.

Which dialect that is, the request knows; see `wire.asked`.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from carrel.errors import CarrelError, UpstreamError
from carrel.http.errors import anthropic_error, openai_error
from carrel.http.exchange import Exchange
from carrel.http.streaming import EventStream, closing, event_stream
from carrel.wire.asked import AnswerStream, Asked
from carrel.wire.conversation import Finished, ModelEvent
from carrel.wire.openai_answer import ChatStream
from carrel.wire.responses_answer import ResponseStream

Kept = Callable[[dict[str, Any]], Awaitable[None]]


async def say(
    exchange: Exchange,
    asked: Asked,
    events: AsyncIterator[ModelEvent | None],
    *,
    id: str,  # noqa: A002 - the dialects' name for it
    headers: Mapping[str, str],
    kept: Kept | None = None,
) -> web.StreamResponse:
    """The answer that ``events`` make; a None among them says that somebody is at work.

    ``kept`` is awaited with a whole response before its caller sees the end. Raises what ``events`` raise before
    anything was said; later an error is the stream's last event.
    """
    created = int(exchange.services.clock.now().timestamp())
    if asked.wants_stream:
        return await _streamed(exchange, asked.streaming(id=id, created=created), events, headers, kept)
    async with closing(events):
        async for event in events:
            if isinstance(event, Finished):
                answer = asked.whole(event, id=id, created=created)
                if kept is not None:
                    await kept(answer)
                # Half a surrogate pair, which a vendor may send, is escaped as it was there.
                body = json.dumps(answer, ensure_ascii=False).encode("utf-8", "backslashreplace")
                return web.Response(body=body, content_type="application/json", charset="utf-8", headers=headers)
    raise UpstreamError("The model's answer ended too early.", retryable=True)


async def _streamed(
    exchange: Exchange,
    said: AnswerStream,
    events: AsyncIterator[ModelEvent | None],
    headers: Mapping[str, str],
    kept: Kept | None,
) -> web.StreamResponse:
    async with closing(events), event_stream(exchange, headers) as stream:
        try:
            async for event in events:
                data = said.tick() if event is None else said.event(event)
                final = said.final if kept is not None and isinstance(said, ResponseStream | ChatStream) else None
                if kept is not None and final is not None:
                    await kept(final)
                await stream.send(data)
        except CarrelError as error:
            if not stream.begun:
                raise
            await _broken_off(exchange, stream, said, error)
    return stream.response


async def _broken_off(exchange: Exchange, stream: EventStream, said: AnswerStream, error: CarrelError) -> None:
    if exchange.dialect == "anthropic":
        kind = anthropic_error(error, request_id=exchange.request_id)["error"]["type"]
    else:
        kind = openai_error(error)["error"]["type"]
    await stream.send(said.error(error.code, error.message, type=kind))
