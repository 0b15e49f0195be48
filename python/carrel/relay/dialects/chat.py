"""OpenAI's chat completions, as many vendors speak them. A stream's usage is asked for where the caller did not."""

import json
import re
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal, Self

from carrel.errors import InvalidRequest
from carrel.relay.body import MAX_COUNT, count_in, messages_in, model_in, parse_body, stream_in
from carrel.relay.dialects.protocol import UNBOUNDED, CallFields, Outgoing, OwnKeyOnly
from carrel.relay.observe import (
    DONE,
    ERROR,
    TIER,
    USAGE,
    Marks,
    Seen,
    StreamObserver,
    record_in,
    tier_at_front,
    tier_in_ends,
    usage_in_ends,
)
from carrel.relay.said import text_members
from carrel.relay.splice import add_member, find_members, replace_members
from carrel.wire.openai_answer import error_body
from carrel.wire.usage import find_openai_usage, tier_of, usage_from_openai

MAX_CHOICES: Final = 128
_ASK_USAGE: Final = b'"stream_options":{"include_usage":true}'
_LIMITING: Final = frozenset({
    "max_tokens", "max_completion_tokens", "n", "stream_options", "service_tier", "web_search_options",
    "modalities", "audio", "store",
})  # fmt: skip
"""The members that matter here beside the model, the messages and whether it is a stream."""
_STORED: Final = OwnKeyOnly("messages", "a stored file may be anybody's; put its bytes into `file_data`.")
_TEXT: Final = text_members("content", "refusal", "reasoning_content", "reasoning", "arguments")
_PLAIN_PARTS: Final = frozenset({"text", "refusal"})


@dataclass(slots=True, kw_only=True)
class ChatFields(CallFields):
    """``stream_options`` is None where left out. ``adds_options``: there is no member of that name, not even a null."""

    kind: ClassVar[Literal["openai", "anthropic"]] = "openai"
    path: ClassVar[str] = "/chat/completions"
    text: ClassVar[re.Pattern[bytes]] = _TEXT

    stream_options: dict[str, Any] | None = None
    adds_options: bool = True
    stores: bool = False
    """Whether the answer is to be kept."""

    @property
    def include_usage(self) -> bool:
        """Whether the caller asked for a stream's usage."""
        return bool(self.stream_options and self.stream_options.get("include_usage"))

    @classmethod
    def read(cls, body: bytes) -> Self:
        value = parse_body(body)
        model = model_in(value)
        messages = messages_in(value)
        stream = stream_in(value)
        images, stored, sound = _parts_of(messages)
        if _LIMITING.isdisjoint(value):
            return cls(
                model=model, stream=stream, images=images, own_key_only=stored, sound=sound
            )  # fmt: skip
        options = value.get("stream_options")
        if options is not None and not isinstance(options, dict):
            raise InvalidRequest("`stream_options` is an object.", param="stream_options")
        if options is not None and not stream:
            raise InvalidRequest(
                "`stream_options` is for streams: set `stream`, or leave it out.", param="stream_options"
            )
        limits = [count_in(value, name, MAX_COUNT) for name in ("max_tokens", "max_completion_tokens")]
        if value.get("web_search_options") is not None:
            images = UNBOUNDED
        return cls(
            model=model,
            stream=stream,
            tier=tier_of(value),
            stream_options=options,
            max_output=max((limit for limit in limits if limit is not None), default=None),
            choices=count_in(value, "n", MAX_CHOICES) or 1,
            images=images,
            own_key_only=_own_key_only(value, stored=stored),
            sound=sound or _asks_sound(value),
            adds_options="stream_options" not in value,
            stores=bool(value.get("store")),
        )

    def outgoing(self, body: bytes, upstream: str | None, *, asks_usage: bool, byo: bool) -> Outgoing:
        if upstream is not None and upstream != self.model:
            body = replace_members(body, {"model": upstream})
        if self.stores and not byo:
            # Metadata is for what is stored: it is refused with what is not.
            noted = find_members(body, ("metadata",))
            body = replace_members(body, {"store": False, **dict.fromkeys(noted)})
        if not self.stream or self.include_usage or not asks_usage:
            return Outgoing(body, body, hides_usage=False)
        if self.adds_options:
            return Outgoing(add_member(body, _ASK_USAGE), body, hides_usage=True)
        options = {**(self.stream_options or {}), "include_usage": True}
        return Outgoing(replace_members(body, {"stream_options": options}), body, hides_usage=True)

    def observer(self, *, hide_usage: bool) -> StreamObserver:
        kind = TieredObserver if self.tier not in (None, "standard") else ChatObserver
        return kind(hide_usage=hide_usage)

    def seen_in(self, body: bytes) -> Seen:
        seen = Seen()
        record = record_in(body)
        take_usage(seen, record)
        seen.error = bool(record.get("error"))
        choices = record.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            message = choice.get("message") if isinstance(choice, dict) else None
            calls = message.get("tool_calls") if isinstance(message, dict) else None
            seen.tool_calls += len(calls) if isinstance(calls, list) else 0
        return seen

    def seen_in_ends(self, front: bytes, back: bytes) -> Seen:
        usage, served = usage_in_ends(front, back), tier_in_ends(front, back, asked=self.tier)
        return Seen(None if usage is None else usage_from_openai(usage, served=served), served=served)

    def error_event(self, code: str, message: str) -> bytes:
        return f"data: {json.dumps(error_body(code, message, None, 'server_error'))}\n\n".encode()


def _asks_sound(value: dict[str, Any]) -> str:
    """The field that asks for an answer in sound."""
    kinds = value.get("modalities")
    if isinstance(kinds, list) and "audio" in kinds:
        return "modalities"
    return "audio" if value.get("audio") is not None else ""


def _parts_of(messages: list[Any]) -> tuple[int, OwnKeyOnly | None, str]:
    """How many parts may be larger for a model than their bytes, and what names something that the vendor stores.

    Any part that we do not know may fill the model's window. The last is where one is sound, if any is.
    """
    count, sound = 0, ""
    stored: OwnKeyOnly | None = None
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise InvalidRequest("A message is an object.", param=f"messages[{number}]")
        if message.get("audio") is not None:
            where = f"messages[{number}].audio"
            stored, sound, count = stored or _stored_sound(where), sound or where, count + UNBOUNDED
        content = message.get("content")
        if isinstance(content, list):
            for part in content:
                kind = part.get("type") if isinstance(part, dict) else None
                file = part.get("file") if isinstance(part, dict) else None
                if isinstance(file, dict) and file.get("file_id") is not None:
                    stored = stored or _STORED
                if kind == "input_audio":
                    sound = sound or f"messages[{number}].content"
                elif kind == "image_url":
                    count += 1
                elif kind not in _PLAIN_PARTS:
                    count += UNBOUNDED
    return count, stored, sound


def _stored_sound(where: str) -> OwnKeyOnly:
    return OwnKeyOnly(where, "a stored answer in sound may be anybody's; send what it said as `content`.")


def _own_key_only(value: dict[str, Any], *, stored: OwnKeyOnly | None) -> OwnKeyOnly | None:
    if value.get("web_search_options") is not None:
        return OwnKeyOnly("web_search_options", "a search has a fee that the model's rates do not have; leave it out.")
    return stored


def take_usage(seen: Seen, record: dict[str, Any]) -> bool:
    """Note the usage in ``record``, and the tier that is said there or was before; whether there was a usage."""
    usage = find_openai_usage(record)
    seen.served = tier_of(record) or seen.served
    if usage is not None:
        seen.counts = usage_from_openai(usage, served=seen.served)
    elif seen.counts is not None and seen.counts.served != seen.served:
        seen.counts = replace(seen.counts, served=seen.served)
    return usage is not None


class ChatObserver(StreamObserver):
    """A stream of chunks. ``hide_usage``: it was asked for by us, and the event with nothing else is kept back."""

    text: ClassVar[re.Pattern[bytes]] = _TEXT
    last_marks: ClassVar[Marks] = (USAGE, DONE, (b'"tool_calls"', re.compile(rb"\s*:\s*\[")), ERROR)
    marks: ClassVar[Marks] = (*last_marks, (b'"finish_reason":"', None), (b'"finish_reason": "', None))

    def __init__(self, *, hide_usage: bool) -> None:
        super().__init__()
        self._hide_usage = hide_usage
        self._calls: set[tuple[int, int, str]] = set()

    def _record(self, record: dict[str, Any], event: bytes) -> bytes:
        has_usage = take_usage(self.seen, record)
        if record.get("error"):
            self.seen.error = True
        choices = record.get("choices")
        if not isinstance(choices, list) or not choices:
            if has_usage and self._hide_usage and not record.get("error"):
                return b""
            return event
        for choice in choices:
            if isinstance(choice, dict):
                self._choice(choice)
        return event

    def _look_back(self, kept: bytes) -> None:
        self.seen.served = self.seen.served or tier_at_front(kept)

    def _choice(self, choice: dict[str, Any]) -> None:
        if choice.get("finish_reason"):
            self.finished = True
        delta = choice.get("delta")
        calls = delta.get("tool_calls") if isinstance(delta, dict) else None
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and function.get("name"):
                place = call.get("index")
                key = (_number(choice.get("index")), _number(place, position), str(call.get("id") or ""))
                if key not in self._calls and len(self._calls) < 10_000:
                    self._calls.add(key)
        self.seen.tool_calls = len(self._calls)


class TieredObserver(ChatObserver):
    """Of a call that asks for a tier: every chunk says at which it is served, also one whose stream breaks off."""

    last_marks: ClassVar[Marks] = (*ChatObserver.last_marks, TIER)
    marks: ClassVar[Marks] = (*ChatObserver.marks, TIER)


def _number(value: object, otherwise: int = 0) -> int:
    return value if isinstance(value, int) else otherwise
