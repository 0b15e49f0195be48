"""Lists of the control plane come page by page: `limit` and `cursor` in the query, `next` in the answer."""

from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel

from carrel.errors import InvalidRequest
from carrel.http.exchange import Exchange
from carrel.http.routes import Query
from carrel.http.rpc.paging import Place, paged
from carrel.wire.rpc import Page

MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 100
PAGING: Final = (
    Query("cursor", "Go on behind this place, as `next` of the page before named it."),
    Query("limit", f"1 to {MAX_PAGE}; {DEFAULT_PAGE} by default.", r"^[0-9]{1,4}$"),
)


def page(
    exchange: Exchange, whole: BaseModel, of: str, place: Callable[[Any], Place], *, newest_first: bool = False
) -> web.Response:
    """The page that is asked for of ``whole``, an answer with the list ``of`` and with `next`. Raises InvalidRequest.

    ``place`` is what entries are sorted by: a cursor names the place after one, not its number.
    """
    query = exchange.request.query
    asked = Page.model_construct(cursor=query.get("cursor"), limit=limit_in(exchange))
    taken, after = paged(getattr(whole, of), place, asked, newest_first=newest_first)
    text = whole.model_copy(update={of: tuple(taken), "next": after}).model_dump_json()
    return web.Response(text=text, content_type="application/json")


def limit_in(exchange: Exchange) -> int:
    """How many entries a page may have; raises InvalidRequest."""
    text = exchange.request.query.get("limit", str(DEFAULT_PAGE))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= MAX_PAGE):
        raise InvalidRequest(f"`limit` is 1 to {MAX_PAGE}.", param="limit")
    return int(text)
