"""`/v1/responses`: made now or in the background, kept for the tenant, gone on from.

They are kept here and not with the vendor, whose key is everybody's: see ADR 0055.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from secrets import token_hex
from typing import Any, Final

from aiohttp import web

from carrel.errors import InvalidRequest, UpstreamError
from carrel.http.agent_answer import agent_answer, session_of, turn_events
from carrel.http.background import passed_through, played
from carrel.http.exchange import Exchange
from carrel.http.model_calls import in_place_of, model_in, naming, with_fallbacks
from carrel.http.pages_asked import number_in, page_of
from carrel.http.routes import Query, Route
from carrel.http.saying import Kept as Keeps
from carrel.http.saying import say
from carrel.http.streaming import closing, event_stream
from carrel.http.translated import prompt_tokens, translated_events
from carrel.ids import SessionId, new_session_id, parse_session_id
from carrel.policy.ways import Through, ToAgent, Translated, Way, way_of
from carrel.relay.body import parse_body
from carrel.relay.dialects.responses import ResponsesFields
from carrel.relay.response import Relayed
from carrel.relay.splice import replace_members
from carrel.responses.book import Kept
from carrel.responses.service import Responses, Run
from carrel.tenancy.handle import Tenant
from carrel.wire.conversation import ModelEvent, ModelRequest
from carrel.wire.responses_answer import encode_event, replay
from carrel.wire.responses_items import is_summary, listed, opened, sent_again
from carrel.wire.responses_request import ResponsesAsked, parse

Json = dict[str, Any]
PAGE: Final = 20
MOST: Final = 100
ESTIMATED: Final = "X-Carrel-Estimated"


@dataclass(frozen=True, slots=True)
class _Making:
    """One response on its way. ``asked`` goes on with what came before; ``session`` is the agent's, where one was."""

    exchange: Exchange
    tenant: Tenant
    asked: ResponsesAsked
    body: bytes
    key: str
    created: datetime
    session: SessionId | None

    @property
    def id(self) -> str:
        """The response's id, where we name it."""
        return f"resp_{self.key}"

    @property
    def keeps(self) -> bool:
        """Whether it is to be kept."""
        return self.asked.request.store is not False

    @property
    def head(self) -> Json:
        """The response as it begins."""
        return self.asked.head(id=self.id, created=int(self.created.timestamp()))

    def kept(self, body: Json, session: SessionId | None) -> Kept:
        """It, as it is kept."""
        request = self.asked.request
        told: Json = {"previous_response_id": request.previous_response_id, "store": True}
        told |= {"background": bool(request.background)}
        return Kept(
            body=body | told, items=request.items, created=self.created, previous=request.previous_response_id,
            session=session, owner=self.tenant.own or "",
        )  # fmt: skip

    def keeper(self, session: SessionId | None = None) -> Keeps | None:
        """Keeps the whole response; None where it is not to be kept."""
        if not self.keeps:
            return None

        async def keep(body: Json) -> None:
            await _responses(self.exchange).keep(self.tenant, self.kept(body, session))

        return keep


async def create(exchange: Exchange) -> web.StreamResponse:
    """Make a response."""
    tenant = exchange.tenant("chat").tenant
    await exchange.services.meter.admit_request(tenant)
    body = await exchange.body(limit=exchange.snapshot.gateway.max_body_bytes)
    way = way_of(exchange.snapshot, tenant, "responses", model_in(body))
    making = await _making(exchange, tenant, way, body)
    if making.asked.request.background:
        return await _in_background(making, way)

    async def go(way: Way) -> web.StreamResponse:
        return await _now(making, way)

    return await with_fallbacks(exchange, tenant, "responses", way, go)


async def _making(exchange: Exchange, tenant: Tenant, way: Way, body: bytes) -> _Making:
    """What is asked, with the conversation that it goes on with."""
    parse_body(body)
    asked = parse(body)
    if any(is_summary(item) for item in asked.request.items):
        body = replace_members(body, {"input": opened(asked.request.items)})
    if asked.request.background and asked.request.store is False:
        raise InvalidRequest("What is made in the background is kept: leave `store` out.", param="store")
    making = _Making(exchange, tenant, asked, body, token_hex(16), exchange.services.clock.now(), None)
    previous = asked.request.previous_response_id
    if previous is None:
        return making
    try:
        before = await _responses(exchange).conversation(tenant, previous)
    except InvalidRequest:
        own = isinstance(way, Through) and way.config.provider in tenant.config.providers
        if own and not asked.request.background:
            # With the tenant's own key the vendor keeps responses too, and knows those that we do not.
            return making
        raise
    session = before[-1].session
    if isinstance(way, ToAgent) and session is not None:
        return replace(making, session=parse_session_id(session))
    items = _said_in(before)
    if isinstance(way, ToAgent):
        return replace(making, asked=asked.following(items), session=new_session_id())
    mine = [*sent_again(items), *opened(asked.request.items)]
    body = replace_members(body, {"input": mine, "previous_response_id": None})
    return replace(making, asked=asked.following(items), body=body)


async def with_earlier(exchange: Exchange, tenant: Tenant, asked: ResponsesAsked) -> ResponsesAsked:
    """``asked`` with the conversation that it goes on with, where it names one; raises InvalidRequest."""
    previous = asked.request.previous_response_id
    if previous is None:
        return asked
    return asked.following(_said_in(await _responses(exchange).conversation(tenant, previous)))


def _said_in(before: list[Kept]) -> tuple[Json, ...]:
    return tuple(item for kept in before for item in (*kept.items, *kept.body.get("output", ())))


async def _now(making: _Making, way: Way) -> web.StreamResponse:
    """Answer whoever asked."""
    exchange, tenant, asked = making.exchange, making.tenant, making.asked
    if isinstance(way, ToAgent):
        session = making.session or session_of(exchange, asked.to_agent(), way.name)
        return await agent_answer(
            exchange, tenant, way.name, asked, id=making.key, session=session, kept=making.keeper(session)
        )
    if isinstance(way, Translated):
        events = translated_events(exchange, tenant, way, asked, size=len(making.body))
        headers = in_place_of(asked, way)
        return await say(exchange, asked, events, id=making.key, headers=headers, kept=making.keeper())
    body = _for_vendor(making, way)
    keep = making.keeper()
    fields = replace(ResponsesFields.read(body), own_id="" if keep is None else making.id)

    async def written() -> None:
        if keep is not None and fields.answers and isinstance(fields.answers[-1].get("id"), str):
            await keep(fields.answers[-1])

    relayed = Relayed(exchange.request)
    await relayed.introduce()
    answer = await exchange.services.relay.pass_on(
        relayed, tenant, exchange.snapshot, exchange.request_id, body, fields=replace(fields, written=written)
    )
    relayed.set_status(answer.status)
    return relayed


def _for_vendor(making: _Making, way: Through) -> bytes:
    """The body as it passes. What is to be gone on from needs its reasoning sealed, for the vendor keeps none."""
    body = naming(making.body, way.model)
    request = making.asked.request
    members: Json = {}
    if request.background:
        members["background"] = False
    sealed = "reasoning.encrypted_content"
    thinks = (request.reasoning or {}).get("effort") not in (None, "none")
    if making.keeps and thinks and sealed not in (request.include or ()):
        members["include"] = [*(request.include or ()), sealed]
    return replace_members(body, members) if members else body


# --- in the background ---


async def _in_background(making: _Making, way: Way) -> web.StreamResponse:
    # Who asked is gone by then, and the edge perhaps closed: what is to be settled then has tasks of its own.
    exchange = replace(making.exchange, tasks=_responses(making.exchange).settling)
    making = replace(making, exchange=exchange)
    tenant, asked = making.tenant, making.asked
    session = None
    if isinstance(way, ToAgent):
        session = making.session or session_of(exchange, asked.to_agent(), way.name)
    elif isinstance(way, Translated):
        # What cannot be carried is said now, and not to nobody.
        asked.to_model(model=way.model, max_output=way.config.max_output)

    async def work(run: Run) -> Json:
        async def go(way: Way) -> Json:
            if isinstance(way, Through):
                return await passed_through(
                    exchange, tenant, run, _for_vendor(making, way), response_id=making.id
                )  # fmt: skip
            stream = asked.streaming(id=making.key, created=int(making.created.timestamp()))
            return await played(run, stream, _events(making, way, session))

        return await with_fallbacks(exchange, tenant, "responses", way, go)

    queued = making.kept(making.head | {"status": "queued"}, session)
    run = await _responses(exchange).start(tenant, queued, work)
    if asked.wants_stream:
        return await _streamed(exchange, run.follow(-1))
    return web.json_response(queued.body)


def _events(making: _Making, way: ToAgent | Translated, session: SessionId | None) -> AsyncIterator[ModelEvent | None]:
    exchange, tenant, asked = making.exchange, making.tenant, making.asked
    if isinstance(way, Translated):
        return translated_events(exchange, tenant, way, asked, size=len(making.body))
    return turn_events(exchange, tenant, way.name, asked.to_agent(), session or new_session_id())


async def _streamed(exchange: Exchange, events: AsyncIterator[Json]) -> web.StreamResponse:
    async with closing(events), event_stream(exchange, {}) as stream:
        await stream.begin()
        async for event in events:
            await stream.send(encode_event(event))
    return stream.response


# --- what is kept ---


async def retrieve(exchange: Exchange) -> web.StreamResponse:
    """A response as it is now; with `stream=true` its events, those above `starting_after`."""
    tenant = exchange.tenant("chat").tenant
    response_id = exchange.request.match_info["response"]
    kept = await _responses(exchange).get(tenant, response_id)
    query = exchange.request.query
    if query.get("stream", "false").lower() != "true":
        return web.json_response(kept.body)
    after = number_in(query, "starting_after", -1, most=1 << 31)
    run = _responses(exchange).running(tenant, response_id)
    if run is not None:
        return await _streamed(exchange, run.follow(after))
    return await _streamed(exchange, _replayed(kept, after))


async def _replayed(kept: Kept, after: int) -> AsyncIterator[Json]:
    for event in kept.events or replay(kept.body):
        if event["sequence_number"] > after:
            yield event


async def delete(exchange: Exchange) -> web.StreamResponse:
    """Forget a response."""
    tenant = exchange.tenant("chat").tenant
    response_id = (await _responses(exchange).get(tenant, exchange.request.match_info["response"])).id
    async with exchange.change("responses.delete", response_id, tenant):
        await _responses(exchange).remove(tenant, response_id)
    return web.json_response({"id": response_id, "object": "response.deleted", "deleted": True})


async def cancel(exchange: Exchange) -> web.StreamResponse:
    """End a response that is made in the background; the call upstream ends with it."""
    tenant = exchange.tenant("chat").tenant
    response_id = (await _responses(exchange).get(tenant, exchange.request.match_info["response"])).id
    async with exchange.change("responses.cancel", response_id, tenant):
        kept = await _responses(exchange).cancel(tenant, response_id)
    return web.json_response(kept.body)


async def input_items(exchange: Exchange) -> web.StreamResponse:
    """The items that a response was asked with, in pages, the last one first unless `order` is `asc`."""
    tenant = exchange.tenant("chat").tenant
    response_id = exchange.request.match_info["response"]
    kept = await _responses(exchange).get(tenant, response_id)
    items = listed(kept.items, response_id)
    page, more = page_of(
        exchange.request.query, items, newest_first=True, of="item of this response", limit=PAGE, most=MOST
    )
    return web.json_response({
        "object": "list", "data": page, "has_more": more,
        "first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None,
    })  # fmt: skip


async def input_tokens(exchange: Exchange) -> web.StreamResponse:
    """About how many tokens a response's input has: an estimate, which the answer says."""
    tenant = exchange.tenant("chat").tenant
    await exchange.services.meter.admit_request(tenant)
    body = await exchange.body(limit=exchange.snapshot.gateway.max_body_bytes)
    way = way_of(exchange.snapshot, tenant, "responses", model_in(body))
    making = await _making(exchange, tenant, way, body)
    if isinstance(way, ToAgent):
        taken = making.asked.to_agent()
        request = ModelRequest(making.asked.model, taken.messages, taken.system)
    else:
        request = making.asked.to_model(model=way.model, max_output=way.config.max_output)
    counted = {"object": "response.input_tokens", "input_tokens": prompt_tokens(request)}
    return web.json_response(counted, headers={ESTIMATED: "input_tokens"})


def _responses(exchange: Exchange) -> Responses:
    responses = exchange.services.responses
    if responses is None:
        raise UpstreamError("This gateway keeps no responses.")
    return responses


_ONE: Final = "/v1/responses/{response}"
ROUTES: Final = (
    Route("POST", "/v1/responses", create, "tenant-chat", "A response, by an agent or a model.", dialect="openai",
          counts=True),
    Route("POST", "/v1/responses/input_tokens", input_tokens, "tenant-chat", "About how many tokens an input has.",
          dialect="openai", counts=True),
    Route("GET", _ONE, retrieve, "tenant-chat", "A response that was kept, or is made in the background.",
          dialect="openai", query=(
              Query("stream", "`true` gives its events."),
              Query("starting_after", "The number of the last event that you have."),
          )),
    Route("DELETE", _ONE, delete, "tenant-chat", "Forget a response.", dialect="openai"),
    Route("POST", f"{_ONE}/cancel", cancel, "tenant-chat", "End a response that is made in the background.",
          dialect="openai"),
    Route("GET", f"{_ONE}/input_items", input_items, "tenant-chat", "What a response was asked with.",
          dialect="openai", query=(
              Query("limit", "1 to 100; 20 by default."), Query("order", "`asc` or `desc`."),
              Query("after", "Go on after the item of this id."),
          )),
)  # fmt: skip
