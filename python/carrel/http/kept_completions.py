"""Chat completions that their callers asked to be kept: listed, fetched, noted and forgotten.

They are kept here and not with the vendor, as responses are: see ADR 0055.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from secrets import token_hex
from typing import Any, Final

from aiohttp import web

from carrel.errors import InvalidRequest, UpstreamError
from carrel.http.exchange import Exchange
from carrel.http.pages_asked import number_in, order_in, page_of
from carrel.http.routes import Query, Route
from carrel.http.saying import Kept as Keeps
from carrel.relay.body import parse_body
from carrel.relay.dialects.chat_kept import KeptChatFields
from carrel.relay.response import Relayed
from carrel.responses.completions import Completion, Completions, Wanted
from carrel.tenancy.handle import Tenant

Json = dict[str, Any]
_FILTER: Final = re.compile(r"metadata\[(.*)\]", re.DOTALL)
_STORE: Final = re.compile(
    b'"' + b"".join(rb"(?:%c|\\u00%x)" % (letter, letter) for letter in b"store") + rb'"\s*:', re.IGNORECASE
)
"""The name of the member however it is written: a body is read once more only where it may be there."""
MOST_NOTES: Final = 16
LONGEST_NAME: Final = 64
LONGEST_NOTE: Final = 512


def keeper(exchange: Exchange, tenant: Tenant, body: bytes) -> Keeps | None:
    """Keeps the completion that ``body`` asks for; None where it is not to be kept. Raises InvalidRequest."""
    if _STORE.search(body) is None:
        return None
    request = parse_body(body)
    asks = request.get("store")
    if asks is not None and not isinstance(asks, bool):
        raise InvalidRequest("`store` is true or false.", param="store")
    if not asks:
        return None
    completions = _completions(exchange)
    metadata = _metadata(request.get("metadata"))
    messages = request.get("messages")
    asked = tuple(messages) if isinstance(messages, list) else ()

    async def keep(answer: Json) -> None:
        kept = Completion(
            answer | {"metadata": metadata}, asked, str(request.get("model")), exchange.services.clock.now(),
            tenant.own or "",
        )  # fmt: skip
        await completions.keep(tenant, kept)

    return keep


async def passed_on(exchange: Exchange, tenant: Tenant, body: bytes, keep: Keeps) -> web.StreamResponse:
    """The vendor's own answer to ``body``, kept before its end is passed on."""
    fields = replace(KeptChatFields.read(body), own_id=f"chatcmpl-{token_hex(16)}")

    async def written() -> None:
        if fields.answers:
            await keep(fields.answers[-1])

    relayed = Relayed(exchange.request)
    await relayed.introduce()
    answer = await exchange.services.relay.pass_on(
        relayed, tenant, exchange.snapshot, exchange.request_id, body, fields=replace(fields, written=written)
    )
    relayed.set_status(answer.status)
    return relayed


def _metadata(value: object) -> dict[str, str]:
    """What is noted with a completion; raises InvalidRequest."""
    if value is None:
        return {}
    fits = isinstance(value, dict) and len(value) <= MOST_NOTES and all(
        len(name) <= LONGEST_NAME and isinstance(text, str) and len(text) <= LONGEST_NOTE
        for name, text in value.items()
    )  # fmt: skip
    if not fits or not isinstance(value, dict):
        raise InvalidRequest(
            f"`metadata` is an object of up to {MOST_NOTES} texts of {LONGEST_NOTE} characters, each under a name of "
            f"up to {LONGEST_NAME}.", param="metadata",
        )  # fmt: skip
    return value


async def list_completions(exchange: Exchange) -> web.StreamResponse:
    """A page of the completions that are kept, the oldest first unless `order` is `desc`."""
    tenant = exchange.tenant("chat").tenant
    query = exchange.request.query
    filters = [(match[1], value) for name, value in query.items() if (match := _FILTER.fullmatch(name))]
    wanted = Wanted(
        limit=number_in(query, "limit", 20, least=1, most=100), after=query.get("after"), model=query.get("model"),
        metadata=tuple(filters[:MOST_NOTES]), newest_first=order_in(query, "asc") == "desc",
    )  # fmt: skip
    page, more = await _completions(exchange).page(tenant, wanted)
    return _listed([one.id for one in page], [one.text for one in page], more=more)


async def retrieve_completion(exchange: Exchange) -> web.StreamResponse:
    """A completion as it was answered."""
    tenant = exchange.tenant("chat").tenant
    kept = await _completions(exchange).read(tenant, exchange.request.match_info["completion"])
    return web.json_response(text=kept.text)


async def update_completion(exchange: Exchange) -> web.StreamResponse:
    """Note other metadata with a completion; nothing else of it can be changed."""
    tenant = exchange.tenant("chat").tenant
    body: Mapping[str, Any] = parse_body(await exchange.body())
    other = next((name for name in body if name != "metadata"), None)
    if other is not None or "metadata" not in body:
        raise InvalidRequest("Only `metadata` of a completion can be changed.", param=other or "metadata")
    metadata = _metadata(body["metadata"])
    completion_id = (await _completions(exchange).read(tenant, exchange.request.match_info["completion"])).id
    async with exchange.change("completions.update", completion_id, tenant):
        kept = await _completions(exchange).note(tenant, completion_id, metadata)
    return web.json_response(text=kept.text)


async def delete_completion(exchange: Exchange) -> web.StreamResponse:
    """Forget a completion."""
    tenant = exchange.tenant("chat").tenant
    completion_id = (await _completions(exchange).read(tenant, exchange.request.match_info["completion"])).id
    async with exchange.change("completions.delete", completion_id, tenant):
        await _completions(exchange).remove(tenant, completion_id)
    return web.json_response({"id": completion_id, "object": "chat.completion.deleted", "deleted": True})


async def completion_messages(exchange: Exchange) -> web.StreamResponse:
    """The messages that a completion was asked with, in pages, the first one first unless `order` is `desc`."""
    tenant = exchange.tenant("chat").tenant
    kept = await _completions(exchange).get(tenant, exchange.request.match_info["completion"])
    shown = [_shown(message, f"{kept.id}-{number}") for number, message in enumerate(kept.messages)]
    page, more = page_of(exchange.request.query, shown, newest_first=False, of="message of this completion")
    return _listed([message["id"] for message in page], [json.dumps(message) for message in page], more=more)


def _shown(message: Json, message_id: str) -> Json:
    """A message of a request as a list shows it: text as `content`, and the parts that it was written in."""
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    texts = [part.get("text") for part in parts or () if isinstance(part, dict)]
    said = "".join(text for text in texts if isinstance(text, str)) if parts is not None else content
    return {**message, "id": message_id, "content": said, "content_parts": parts}


def _listed(ids: list[str], texts: list[str], *, more: bool) -> web.StreamResponse:
    """A list of what ``texts`` are in JSON, each under the id in its place."""
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    about = json.dumps({"object": "list", "first_id": first, "last_id": last, "has_more": more})
    return web.json_response(text=f'{about[:-1]}, "data": [{", ".join(texts)}]}}')


def _completions(exchange: Exchange) -> Completions:
    responses = exchange.services.responses
    if responses is None:
        raise UpstreamError("This gateway keeps no completions.")
    return responses.completions


_ALL: Final = "/v1/chat/completions"
_ONE: Final = f"{_ALL}/{{completion}}"
_PAGES: Final = (
    Query("limit", "1 to 100; 20 by default."), Query("order", "`asc` or `desc`."),
    Query("after", "Go on after the one of this id."),
)  # fmt: skip
ROUTES: Final = (
    Route("GET", _ALL, list_completions, "tenant-chat", "Completions that were kept.", dialect="openai", query=(
        *_PAGES, Query("model", "Of this model alone."), Query("metadata[NAME]", "With this value under that name."),
    )),
    Route("GET", _ONE, retrieve_completion, "tenant-chat", "A completion that was kept.", dialect="openai"),
    Route("POST", _ONE, update_completion, "tenant-chat", "Note other metadata with a completion.", dialect="openai"),
    Route("DELETE", _ONE, delete_completion, "tenant-chat", "Forget a completion.", dialect="openai"),
    Route("GET", f"{_ONE}/messages", completion_messages, "tenant-chat", "What a completion was asked with.",
          dialect="openai", query=_PAGES),
)  # fmt: skip
