"""How a list is asked for in OpenAI's dialect: how much of it, and which end first."""

from collections.abc import Mapping

from carrel.errors import InvalidRequest


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
