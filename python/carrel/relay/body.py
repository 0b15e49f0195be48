"""A request's body, read once, strictly, and never written anew.

Strictly, for what we read must be what the vendor reads: a key that is there twice, a body that is not UTF-8, NaN: all
of these different parsers read differently, and are refused.
"""

import json
from typing import Any, Final, NoReturn

from carrel.errors import InvalidRequest

MAX_COUNT: Final = 1 << 31


def parse_body(body: bytes) -> dict[str, Any]:
    """``body`` as an object; raises InvalidRequest."""
    try:
        value = _value(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not UTF-8.") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except ValueError as error:
        raise InvalidRequest(f"The body is not JSON: {str(error)[:120]}.") from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body is not a JSON object.")
    return value


def model_in(value: dict[str, Any]) -> str:
    """The model that is named."""
    model = value.get("model")
    if not isinstance(model, str) or not model:
        wrong = "is missing" if model is None or model == "" else "is text"
        raise InvalidRequest(f"`model` {wrong}: name a model.", param="model")
    return model


def messages_in(value: dict[str, Any]) -> list[Any]:
    """The messages of a call."""
    messages = value.get("messages")
    if not isinstance(messages, list):
        wrong = "is missing" if messages is None else "is not a list"
        raise InvalidRequest(f"`messages` {wrong}: give a list of messages.", param="messages")
    return messages


def stream_in(value: dict[str, Any]) -> bool:
    """Whether a stream is asked for."""
    stream = value.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("`stream` is true or false.", param="stream")
    return bool(stream)


def count_in(value: dict[str, Any], name: str, most: int) -> int | None:
    """The number of at least 1 under ``name``, None where it is left out."""
    number = value.get(name)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
        raise InvalidRequest(f"`{name}` is a whole number from 1 to {most}.", param=name)
    return number


def _value(text: str) -> Any:
    """The JSON value in ``text``; an object with nothing around it is had without looking for white space."""
    if text.startswith("{"):
        value, end = _DECODER.raw_decode(text)
        if end == len(text):
            return value
    return _DECODER.decode(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(f"The key {twice[:64]!r} is there twice.", param=twice[:64])
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
