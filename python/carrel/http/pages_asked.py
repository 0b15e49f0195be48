"""How a list is asked for in OpenAI's dialect: how much of it, and which end first."""

from collections.abc import Mapping, Sequence
from typing import Any

from carrel.errors import InvalidRequest

Json = dict[str, Any]


def number_in(query: Mapping[str, str], name: str, otherwise: int, *, least: int = 0, most: int) -> int:
    """The whole number ``name`` of a query, ``otherwise`` where it is left out; raises InvalidRequest."""
    text = query.get(name)
    if text is None:
        return otherwise
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else -1
    if not least <= number <= most:
        raise InvalidRequest(f"`{name}` is a whole number from {least} to {most}.", param=name)
    return number


def order_in(query: Mapping[str, str], otherwise: str) -> str:
    """`asc` or `desc`; raises InvalidRequest."""
    order = query.get("order", otherwise)
    if order not in ("asc", "desc"):
        raise InvalidRequest("`order` is asc or desc.", param="order")
    return order


def page_of(
    query: Mapping[str, str], items: Sequence[Json], *, newest_first: bool, of: str, limit: int = 20, most: int = 100
) -> tuple[list[Json], bool]:
    """The page of ``items`` that `order`, `after` and `limit` ask for, and whether more follow; raises InvalidRequest.

    Each item has its `id`; ``newest_first`` is the order where none is asked for, ``of`` what they are in an error.
    """
    turned = order_in(query, "desc" if newest_first else "asc") == "desc"
    found = list(reversed(items)) if turned else list(items)
    size = number_in(query, "limit", limit, least=1, most=most)
    after = query.get("after")
    if after is not None:
        places = [number for number, item in enumerate(found) if item["id"] == after]
        if not places:
            raise InvalidRequest(f"`after` names no {of}.", param="after")
        found = found[places[0] + 1 :]
    return found[:size], len(found) > size
