"""OpenAI's Responses as callers write them, for a model of another vendor or an agent: parsed, and said neutrally.

The format is https://platform.openai.com/docs/api-reference/responses/create. What cannot be carried is refused by the
field's name. Where responses are kept is not known here: a conversation comes with all of its items.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from carrel.errors import InvalidRequest
from carrel.wire.body import read_body
from carrel.wire.conversation import AgentRequest, Finished, ModelRequest, OutputSchema, ToolResult, ToolSpec
from carrel.wire.responses_answer import ResponseStream
from carrel.wire.responses_items import conversation, refuse_inside

Json = Mapping[str, Any]
Level = Literal["off", "low", "medium", "high"]
_HINTS: Final = frozenset({
    "metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
    "stream_options", "include", "store", "background", "previous_response_id",
})  # fmt: skip
"""What says how books are kept or who asks, and what the edge reads for itself."""
_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "service_tier": ("auto", "default"), "truncation": ("disabled", "auto"), "top_logprobs": (0,),
}  # fmt: skip
_INCLUDED: Final = frozenset({"reasoning.encrypted_content"})
_SEARCHES: Final = ("web_search", "web_search_preview")
_LEVELS: Final[Mapping[str, Level]] = {
    "none": "off", "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"
}  # fmt: skip


class ResponsesRequest(BaseModel):
    """A request body. ``model_extra`` holds the fields that are not named here."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", defer_build=True, cache_strings="keys")

    model: Annotated[str, Field(min_length=1, max_length=256)]
    input: str | tuple[dict[str, Any], ...] | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: Annotated[str, Field(max_length=256)] | None = None
    metadata: dict[str, Any] | None = None
    include: tuple[str, ...] | None = None
    truncation: str | None = None
    user: str | None = None

    @property
    def items(self) -> tuple[dict[str, Any], ...]:
        """The input as items."""
        if isinstance(self.input, str):
            return ({"type": "message", "role": "user", "content": [{"type": "input_text", "text": self.input}]},)
        return self.input or ()


def parse(body: bytes) -> "ResponsesAsked":
    """The request in ``body``; raises InvalidRequest that names the field."""
    return ResponsesAsked(read_body(ResponsesRequest, body))


@dataclass(frozen=True, slots=True)
class ResponsesAsked:
    """See `asked.Asked`. ``earlier`` are the items of the conversation that the request goes on with."""

    request: ResponsesRequest
    earlier: tuple[dict[str, Any], ...] = ()

    @property
    def model(self) -> str:
        return self.request.model

    @property
    def wants_stream(self) -> bool:
        return bool(self.request.stream)

    def following(self, items: tuple[dict[str, Any], ...]) -> "ResponsesAsked":
        """The request as it goes on with ``items``."""
        return replace(self, earlier=items)

    def to_model(self, *, model: str, max_output: int) -> ModelRequest:
        request = self.request
        self._refuse("this model's provider")
        system, messages = conversation((*self.earlier, *request.items))
        limit = request.max_output_tokens or max_output
        if limit > max_output:
            raise InvalidRequest(
                f"`max_output_tokens` is {limit}; this model writes at most {max_output} tokens.",
                param="max_output_tokens",
            )
        tools = _tools(request)
        return ModelRequest(
            model=model, messages=messages, system="\n\n".join([*filter(None, [request.instructions]), *system]),
            tools=tools, tool_choice=_tool_choice(request, tools), max_tokens=limit, thinking=_thinking(request),
            temperature=request.temperature, top_p=request.top_p,
            parallel_tool_calls=request.parallel_tool_calls is not False, output_schema=_output_schema(request),
        )  # fmt: skip

    def to_agent(self) -> AgentRequest:
        request = self.request
        self._refuse("an agent")
        plain = request.text is None or _output_schema(request) is None
        given: dict[str, object] = {
            "tools": request.tools, "reasoning": request.reasoning, "text": None if plain else request.text,
            "tool_choice": None if request.tool_choice in ("auto", "none") else request.tool_choice,
            "top_p": None if request.top_p == 1 else request.top_p,
        }  # fmt: skip
        name = next((name for name, value in given.items() if value), None)
        if name is not None:
            raise InvalidRequest(
                f"`{name}` is not taken with an agent: what it may do is declared with it. Call a model for that.",
                param=name,
            )
        system, messages = conversation((*self.earlier, *request.items))
        if any(isinstance(b, ToolResult) and b.images for m in messages for b in m.content):
            raise InvalidRequest("An agent takes no images in a tool's result.", param="input")
        told = "\n\n".join([*filter(None, [request.instructions]), *system])
        return AgentRequest(messages, told, request.max_output_tokens, request.temperature, request.user)

    def head(self, *, id: str, created: int) -> dict[str, Any]:  # noqa: A002 - OpenAI's name
        """The response as it begins."""
        request = self.request
        tools = [{"strict": None, "parameters": None, **tool} for tool in request.tools or ()]
        return {
            "id": id, "object": "response", "created_at": created, "status": "in_progress",
            "background": bool(request.background), "error": None, "incomplete_details": None,
            "instructions": request.instructions, "max_output_tokens": request.max_output_tokens,
            "metadata": request.metadata or {}, "model": request.model, "output": [],
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "previous_response_id": request.previous_response_id,
            "reasoning": {"effort": None, "summary": None, **(request.reasoning or {})},
            "store": request.store is not False, "temperature": request.temperature,
            "text": {"format": {"type": "text"}, **(request.text or {})},
            "tool_choice": request.tool_choice or "auto", "tools": tools, "top_p": request.top_p,
            "truncation": request.truncation or "disabled", "usage": None, "user": request.user,
        }  # fmt: skip

    def streaming(self, *, id: str, created: int) -> ResponseStream:  # noqa: A002 - OpenAI's name
        return ResponseStream(self.head(id=f"resp_{id}", created=created), item_prefix=id)

    def whole(self, finished: Finished, *, id: str, created: int) -> dict[str, Any]:  # noqa: A002 - OpenAI's name
        stream = self.streaming(id=id, created=created)
        stream.event(finished)
        return stream.final or {}

    def _refuse(self, who: str) -> None:
        extra = dict(self.request.model_extra or {}) | {"truncation": self.request.truncation}
        for name, value in extra.items():
            if value not in _NEUTRAL.get(name, ()):
                refuse_inside({name: value}, "", _HINTS, who=who)
        for number, included in enumerate(self.request.include or ()):
            if included not in _INCLUDED:
                raise InvalidRequest(
                    f"{included[:64]!r} cannot be included by {who}; leave it out.", param=f"include[{number}]"
                )


def _tools(request: ResponsesRequest) -> tuple[ToolSpec, ...]:
    tools: list[ToolSpec] = []
    free = request.tool_choice in (None, "auto", "none")
    for number, tool in enumerate(request.tools or ()):
        where = f"tools[{number}]"
        match tool:
            case {"type": "function", "name": str(name)}:
                refuse_inside(tool, where, {"type", "name", "description", "parameters", "strict"})
                empty: dict[str, Any] = {"type": "object", "properties": {}}
                described = str(tool.get("description") or "")
                tools.append(ToolSpec(name, described, tool.get("parameters") or empty, tool.get("strict")))
            case {"type": str(kind)} if free and kind.startswith(_SEARCHES):
                # Programs offer it unasked, and the model is free not to take it: see ADR 0054.
                continue
            case _:
                raise InvalidRequest(
                    f"A tool of type {str(tool.get('type'))[:64]!r} is the other vendor's own; only functions can be "
                    "carried.", param=f"{where}.type",
                )  # fmt: skip
    return tuple(tools)


def _tool_choice(request: ResponsesRequest, tools: tuple[ToolSpec, ...]) -> str:
    match request.tool_choice:
        case None:
            return "auto"
        case "auto" | "none" | "required" as kind:
            return kind
        case {"type": "function", "name": str(name)} if any(tool.name == name for tool in tools):
            return name
    raise InvalidRequest(
        "`tool_choice` is auto, none, required, or a function that `tools` declares.", param="tool_choice"
    )


def _thinking(request: ResponsesRequest) -> Level:
    reasoning = request.reasoning or {}
    refuse_inside(reasoning, "reasoning", {"effort", "summary", "generate_summary"})
    effort = reasoning.get("effort")
    if effort is None:
        return "off"
    if effort not in _LEVELS:
        raise InvalidRequest(f"`reasoning.effort` is one of {', '.join(_LEVELS)}.", param="reasoning.effort")
    return _LEVELS[effort]


def _output_schema(request: ResponsesRequest) -> OutputSchema | None:
    text = request.text or {}
    if text.get("verbosity") not in (None, "medium"):
        raise InvalidRequest("`text.verbosity` cannot be honoured by this model's provider.", param="text.verbosity")
    refuse_inside(text, "text", {"format", "verbosity"})
    match text.get("format"):
        case None | {"type": "text"}:
            return None
        case {"type": "json_schema", "name": str(name), "schema": dict(schema)}:
            return OutputSchema(name, schema)
    raise InvalidRequest("The text's format is `text`, or a `json_schema` with name and schema.", param="text.format")
