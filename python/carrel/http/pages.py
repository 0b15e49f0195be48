"""Lists of the control plane come page by page: `limit` and `cursor` in the query, `next` in the answer."""

from typing import Final

from carrel.errors import InvalidRequest
from carrel.http.exchange import Exchange
from carrel.http.routes import Query
from carrel.wire.rpc import Page

MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 100
PAGING: Final = (
    Query("cursor", "Go on behind this place, as `next` of the page before named it."),
    Query("limit", f"1 to {MAX_PAGE}; {DEFAULT_PAGE} by default.", r"^[0-9]{1,4}$"),
)


def page_of(exchange: Exchange) -> Page:
    """The page that is asked for; raises InvalidRequest."""
    query = exchange.request.query
    return Page.model_construct(cursor=query.get("cursor"), limit=limit_in(exchange))


def limit_in(exchange: Exchange) -> int:
    """How many entries a page may have; raises InvalidRequest."""
    text = exchange.request.query.get("limit", str(DEFAULT_PAGE))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= MAX_PAGE):
        raise InvalidRequest(f"`limit` is 1 to {MAX_PAGE}.", param="limit")
    return int(text)
