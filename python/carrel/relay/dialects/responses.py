"""OpenAI's Responses. With the operator's key nothing is stored with the vendor, so that no id of one tenant's is
good for another: a conversation is sent whole, as it is to chat completions."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal, Self

from carrel.errors import InvalidRequest
from carrel.relay.body import MAX_COUNT, count_in, model_in, parse_body, stream_in
from carrel.relay.dialects.protocol import UNBOUNDED, CallFields, Outgoing, OwnKeyOnly
from carrel.relay.observe import (
    DONE,
    ERROR,
    USAGE,
    Marks,
    Seen,
    StreamObserver,
    record_in,
    tier_in_ends,
    usage_in_ends,
)
from carrel.relay.renamed import renamed, renamed_event, with_id
from carrel.relay.said import text_members
from carrel.relay.splice import drop_items, replace_members
from carrel.wire.usage import tier_of, usage_from_openai

_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_IDS: Final = ("previous_response_id", "conversation", "prompt")
_OWN_TOOLS: Final = frozenset(
    {"function", "custom", "local_shell", "apply_patch", "computer", "computer_use_preview", "tool_search"}
)
"""Kinds of tools that the caller runs itself, or that cost nothing but their tokens."""
_LEFT_OUT: Final = ("web_search", "web_search_preview")
"""Kinds that programs offer in every request, and that a model need not take."""
_PLAIN_PARTS: Final = frozenset({"input_text", "output_text", "refusal", "input_audio", "text", "summary_text"})


@dataclass(slots=True, kw_only=True)
class ResponsesFields(CallFields):
    """A response to be made."""

    kind: ClassVar[Literal["openai", "anthropic"]] = "openai"
    path: ClassVar[str] = "/responses"
    text: ClassVar[re.Pattern[bytes]] = text_members("text", "refusal", "arguments", "input")

    left_out: tuple[int, ...] = ()
    """Tools by number that the vendor gets with the tenant's own key alone."""
    answers: list[dict[str, Any]] = field(default_factory=list)
    """The response, once it is whole."""
    own_id: str = ""
    """The id that it is kept under, which its caller sees too; empty where it is not kept: then it has its vendor's."""

    @classmethod
    def read(cls, body: bytes) -> Self:
        value = parse_body(body)
        model = model_in(value)
        if value.get("background"):
            raise InvalidRequest(
                "`background` is not passed on: the answer would be made when nobody meters it.", param="background"
            )
        left_out = _left_out(value)
        own = _own_key_only(value, left_out)
        images = sum(_size(part) for part in _parts(value.get("input")))
        sounds = any(part.get("type") == "input_audio" for part in _parts(value.get("input")))
        return cls(
            tier=tier_of(value), sound="input" if sounds else "",
            model=model, stream=stream_in(value), max_output=count_in(value, "max_output_tokens", MAX_COUNT),
            own_key_only=own, images=UNBOUNDED if own is not None or left_out else images, left_out=left_out,
        )  # fmt: skip

    def outgoing(self, body: bytes, upstream: str | None, *, asks_usage: bool, byo: bool) -> Outgoing:
        values: dict[str, object] = {} if byo else {"store": False}
        if upstream is not None and upstream != self.model:
            values["model"] = upstream
        if self.left_out and not byo:
            body = drop_items(body, "tools", self.left_out)
        body = replace_members(body, values) if values else body
        return Outgoing(body, body, hides_usage=False)

    def observer(self, *, hide_usage: bool) -> StreamObserver:
        return KeptResponsesObserver(self.answers, self.own_id) if self.own_id else ResponsesObserver(self.answers)

    def seen_in(self, body: bytes) -> Seen:
        record = record_in(body)
        self.answers.append(with_id(record, self.own_id) if self.own_id and "id" in record else record)
        return _seen(record)

    def passed(self, body: bytes) -> bytes:
        if not self.own_id or "id" not in self.answers[-1]:
            return body
        return renamed(body, self.answers[-1], self.own_id)

    def seen_in_ends(self, front: bytes, back: bytes) -> Seen:
        usage, served = usage_in_ends(front, back), tier_in_ends(front, back, asked=self.tier)
        return Seen(None if usage is None else usage_from_openai(usage, served=served), served=served)

    def apart(self) -> Self:
        mine = replace(self, answers=[])

        async def written() -> None:
            self.take(mine)
            if self.written is not None:
                await self.written()

        return replace(mine, written=written)

    def take(self, found: Self) -> None:
        self.answers[:] = found.answers

    def error_event(self, code: str, message: str) -> bytes:
        said = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 0}
        return f"event: error\ndata: {json.dumps(said)}\n\n".encode()


class ResponsesObserver(StreamObserver):
    """A stream of a response. All is said in its last event, which holds the whole of it."""

    text: ClassVar[re.Pattern[bytes]] = text_members("delta")
    marks: ClassVar[Marks] = (
        USAGE,
        DONE,
        ERROR,
        *((f'"{end}"'.encode(), None) for end in sorted(_ENDS)),
        (b'"response.output_item.done"', None),
        (b'"type":"error"', None),
        (b'"type": "error"', None),
    )

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        super().__init__()
        self._calls = 0
        self._answers = answers

    def _record(self, record: dict[str, Any], event: bytes) -> bytes:
        kind = record.get("type")
        if kind in _ENDS:
            response = record.get("response")
            self.seen = _seen(response if isinstance(response, dict) else {})
            if isinstance(response, dict):
                self._answers.append(response)
            self.seen.tool_calls = max(self.seen.tool_calls, self._calls)
            return self._hold(event)
        if kind == "error" or (kind is None and record.get("error")):
            self.seen.error = True
            return event
        if kind == "response.output_item.done":
            self._calls += _is_call(record.get("item"))
            self.seen.tool_calls = self._calls
        return event


class KeptResponsesObserver(ResponsesObserver):
    """The same of one that is kept: each event with the response in it has the id that it is kept under."""

    marks: ClassVar[Marks] = (*ResponsesObserver.marks, (b'"response"', re.compile(rb"\s*:\s*\{")))

    def __init__(self, answers: list[dict[str, Any]], own_id: str) -> None:
        super().__init__(answers)
        self._own_id = own_id

    def _record(self, record: dict[str, Any], event: bytes) -> bytes:
        if isinstance(record.get("response"), dict):
            record = with_id(record, self._own_id, within="response")
            event = renamed_event(event, record, self._own_id, within="response")
        return super()._record(record, event)


def _seen(response: dict[str, Any]) -> Seen:
    usage = response.get("usage")
    output = response.get("output")
    served = tier_of(response)
    return Seen(
        usage_from_openai(usage, served=served) if isinstance(usage, dict) else None,
        sum(_is_call(item) for item in output) if isinstance(output, list) else 0,
        bool(response.get("error")) or response.get("status") == "failed",
        served=served,
    )


def _is_call(item: object) -> bool:
    return isinstance(item, dict) and str(item.get("type")).endswith("_call")


def _parts(value: object) -> Iterator[dict[str, Any]]:
    """The items of an input, and the parts of their contents and outputs."""
    for item in value if isinstance(value, list) else ():
        if not isinstance(item, dict):
            raise InvalidRequest("An item of `input` is an object.", param="input")
        yield item
        for name in ("content", "output", "summary"):
            inner = item.get(name)
            for part in inner if isinstance(inner, list) else [inner] if isinstance(inner, dict) else ():
                yield part if isinstance(part, dict) else {}


def _size(part: dict[str, Any]) -> int:
    """How many images' worth a part may be beyond its bytes."""
    kind = part.get("type")
    if kind in ("input_image", "computer_screenshot"):
        return 1
    if kind == "input_file" and not isinstance(part.get("file_data"), str):
        return UNBOUNDED
    known = kind is None or kind in _PLAIN_PARTS or kind in ("message", "reasoning", "compaction")
    return 0 if known or str(kind).endswith(("_call", "_output")) else UNBOUNDED


def _left_out(value: dict[str, Any]) -> tuple[int, ...]:
    """The searches among the tools, where the model is free not to take them."""
    tools = value.get("tools")
    if not isinstance(tools, list) or value.get("tool_choice") not in (None, "auto", "none"):
        return ()
    return tuple(number for number, tool in enumerate(tools) if isinstance(tool, dict) and _is_search(tool))


def _is_search(tool: dict[str, Any]) -> bool:
    return str(tool.get("type")).startswith(_LEFT_OUT)


def _own_key_only(value: dict[str, Any], left_out: tuple[int, ...]) -> OwnKeyOnly | None:
    """What of a request would reach what other tenants share with the operator's key, or cost more than tokens."""
    for name in _IDS:
        if value.get(name) is not None:
            return OwnKeyOnly(name, "nothing is stored with it. Send the conversation's items in `input`.")
    refused = _refused_tool(value.get("tools"), "tools", left_out)
    if refused is not None:
        return refused
    for part in _parts(value.get("input")):
        if part.get("type") == "item_reference":
            return OwnKeyOnly("input", "nothing is stored with it. Send the item itself, not a reference to it.")
        if part.get("file_id") is not None:
            return OwnKeyOnly("input", "a stored file may be anybody's; put its bytes into the item.")
    return None


def _refused_tool(tools: object, where: str, left_out: tuple[int, ...] = ()) -> OwnKeyOnly | None:
    for number, tool in enumerate(tools if isinstance(tools, list) else ()):
        if number in left_out:
            continue
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind == "namespace":
            inner = _refused_tool(tool.get("tools"), f"{where}[{number}].tools")
            if inner is not None:
                return inner
        elif not (kind in _OWN_TOOLS or (kind == "shell" and _is_local(tool))):
            return OwnKeyOnly(
                f"{where}[{number}].type",
                f"{str(kind)[:64]!r} is run by the vendor, at a price that is not by tokens. Leave it out.",
            )
    return None


def _is_local(tool: dict[str, Any]) -> bool:
    environment = tool.get("environment")
    return environment is None or (isinstance(environment, dict) and environment.get("type") == "local")
