"""What the relay needs to know of a chat completion's body: read once, strictly, and never written anew.

Strictly, for what we read must be what the vendor reads: a key that is there twice, a body that is not UTF-8, NaN: all
of these different parsers read differently, and are refused.
"""

import json
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from carrel.errors import InvalidRequest

MAX_CHOICES: Final = 128
_MAX_COUNT: Final = 1 << 31
_UNBOUNDED: Final = 1 << 20
_PLAIN_PARTS: Final = frozenset({"text", "refusal", "input_audio"})


@dataclass(frozen=True, slots=True)
class ChatFields:
    """``images`` counts what may be larger for a model than its bytes. ``stream_options`` is None where left out.

    ``adds_options``: there is no member of that name, not even a null.
    """

    model: str
    stream: bool
    stream_options: dict[str, Any] | None
    max_output: int | None
    choices: int
    images: int
    adds_options: bool = True

    @property
    def include_usage(self) -> bool:
        """Whether the caller asked for a stream's usage."""
        return bool(self.stream_options and self.stream_options.get("include_usage"))


def read_fields(body: bytes) -> ChatFields:
    """The fields of ``body``; raises InvalidRequest that names the one that cannot be used."""
    value = _parse(body)
    model = value.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("`model` is missing: name a model.", param="model")
    messages = value.get("messages")
    if not isinstance(messages, list):
        raise InvalidRequest("`messages` is missing: a list of messages.", param="messages")
    stream = value.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise InvalidRequest("`stream` is true or false.", param="stream")
    options = value.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest("`stream_options` is an object.", param="stream_options")
    if options is not None and not stream:
        raise InvalidRequest("`stream_options` is for streams: set `stream`, or leave it out.", param="stream_options")
    limits = [_count(value, name, _MAX_COUNT) for name in ("max_tokens", "max_completion_tokens")]
    images = _images(messages)
    if value.get("web_search_options") is not None:
        images = _UNBOUNDED
    return ChatFields(
        model=model,
        stream=bool(stream),
        stream_options=options,
        max_output=max((limit for limit in limits if limit is not None), default=None),
        choices=_count(value, "n", MAX_CHOICES) or 1,
        images=images,
        adds_options="stream_options" not in value,
    )


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not UTF-8.") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except ValueError as error:
        raise InvalidRequest(f"The body is not JSON: {str(error)[:120]}.") from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body is not a JSON object.")
    return value


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


def _count(value: dict[str, Any], name: str, most: int) -> int | None:
    number = value.get(name)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
        raise InvalidRequest(f"`{name}` is a whole number from 1 to {most}.", param=name)
    return number


def _images(messages: list[Any]) -> int:
    """How many parts may be larger for a model than their bytes; any that we do not know may fill its window."""
    count = 0
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InvalidRequest("A message is an object.", param=f"messages[{number}]")
        content = message.get("content")
        if isinstance(content, list):
            for part in content:
                kind = part.get("type") if isinstance(part, dict) else None
                if kind == "image_url":
                    count += 1
                elif kind not in _PLAIN_PARTS:
                    count += _UNBOUNDED
    return count
