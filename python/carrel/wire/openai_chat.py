"""OpenAI's chat completions as callers write them: the request, parsed and translated to the neutral shape.

The format is https://platform.openai.com/docs/api-reference/chat/create. Fields that are not known here are kept, so
that a request may go on to an OpenAI-compatible vendor whole; what a translated request cannot honour is refused by
name and never dropped. What goes back to the caller is in `openai_answer`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from carrel.errors import InvalidRequest
from carrel.wire.body import read_body
from carrel.wire.conversation import (
    AgentRequest,
    Block,
    Finished,
    Image,
    Message,
    ModelRequest,
    OutputSchema,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from carrel.wire.openai_answer import ChatStream, completion
from carrel.wire.proofs import from_details

_NAME: Final = r"^[A-Za-z0-9_-]{1,64}$"
_DATA_URL: Final = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,([A-Za-z0-9+/]+={0,2})")
_MAX_STOP: Final = 16

# Fields that say who asks or how the vendor should keep books. They are read by the edge or not at all, and stay here.
IGNORED: Final = frozenset({"metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"})
# Values of otherwise refused fields that ask for nothing beyond what is done anyway.
_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "service_tier": ("auto", "default"),
}


# Hints to a vendor's cache, and what an answer holds that comes back as part of a later request.
_HINTS: Final = frozenset({"cache_control", "prompt_cache_breakpoint"})
_ECHOED: Final[Mapping[str, frozenset[str]]] = {
    "assistant": frozenset({"reasoning_content", "reasoning", "reasoning_details", "parsed"}),
    "tool": frozenset({"name"}),
}
_ECHOED_CALL: Final = frozenset({"index", "parsed_arguments"})


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="allow", defer_build=True, cache_strings="keys")


class ImageUrl(_Part):
    """An image by reference: a `data:` URL or an https one. ``detail`` is a hint that only OpenAI knows."""

    url: str
    detail: str | None = None


class ContentPart(_Part):
    """One part of a message's content; which fields it has follows from ``type``."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None


class CalledFunction(_Part):
    """The function of a tool call: ``arguments`` is JSON text as a model wrote it."""

    name: str
    arguments: str


class CallerToolCall(_Part):
    """A tool call in an assistant message that the caller sends back."""

    id: str
    type: str = "function"
    function: CalledFunction


class ChatMessage(_Part):
    """One message. Vendors' additions (`reasoning_content`, say) are kept as extra fields."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | tuple[ContentPart, ...] | None = None
    refusal: str | None = None
    tool_calls: tuple[CallerToolCall, ...] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class FunctionSpec(_Part):
    """A function that the model may call; ``parameters`` is a JSON Schema object."""

    name: Annotated[str, Field(pattern=_NAME)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class CallerTool(_Part):
    """A tool as the caller declares it."""

    type: Literal["function"]
    function: FunctionSpec


class StreamOptions(_Part):
    """How the stream is to be."""

    include_usage: bool = False


class ChatRequest(_Part):
    """A request body. ``model_extra`` holds the fields that are not named here."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    messages: Annotated[tuple[ChatMessage, ...], Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    stop: str | tuple[str, ...] | None = None
    response_format: dict[str, Any] | None = None
    tools: tuple[CallerTool, ...] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    user: str | None = None

    @property
    def include_usage(self) -> bool:
        """Whether the caller asked for the usage chunk of a stream."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def output_limit(self) -> int | None:
        """The caller's limit on the answer, by its new or its old name."""
        return self.max_completion_tokens or self.max_tokens


@dataclass(frozen=True, slots=True)
class ChatAsked:
    """See `asked.Asked`."""

    request: ChatRequest

    @property
    def model(self) -> str:
        return self.request.model

    @property
    def wants_stream(self) -> bool:
        return bool(self.request.stream)

    def to_model(self, *, model: str, max_output: int) -> ModelRequest:
        return to_model_request(self.request, model=model, max_output=max_output)

    def to_agent(self) -> AgentRequest:
        return to_agent_request(self.request)

    def streaming(self, *, id: str, created: int) -> ChatStream:  # noqa: A002 - OpenAI's name
        return ChatStream(
            id=f"chatcmpl-{id}", model=self.model, created=created, include_usage=self.request.include_usage
        )

    def whole(self, finished: Finished, *, id: str, created: int) -> dict[str, Any]:  # noqa: A002 - OpenAI's name
        return completion(
            id=f"chatcmpl-{id}", model=self.model, created=created, message=finished.message, stop=finished.stop,
            usage=finished.usage,
        )  # fmt: skip


def parse(body: bytes) -> ChatRequest:
    """The request in ``body``; raises InvalidRequest that names the field as OpenAI does (`messages[0].role`)."""
    return read_body(ChatRequest, body)


def to_model_request(request: ChatRequest, *, model: str, max_output: int) -> ModelRequest:
    """``request`` in the neutral shape, for a provider that does not speak OpenAI's dialect.

    ``model`` is the vendor's name of the model, ``max_output`` its ceiling and the default limit. What such a provider
    cannot do (several choices, log probabilities, a seed, a response format, sound) raises InvalidRequest by name.
    """
    _refuse_extras(request, "this model's provider")
    system, messages = _conversation(request)
    limit = request.output_limit
    if limit is not None and limit > max_output:
        param = "max_completion_tokens" if request.max_completion_tokens else "max_tokens"
        raise InvalidRequest(f"`{param}` is {limit}; this model writes at most {max_output} tokens.", param=param)
    return ModelRequest(
        model=model,
        messages=messages,
        system=system,
        tools=_tools(request),
        tool_choice=_tool_choice(request),
        max_tokens=limit or max_output,
        thinking=_thinking(request.reasoning_effort),
        temperature=request.temperature,
        top_p=request.top_p,
        stop=_stop(request),
        parallel_tool_calls=request.parallel_tool_calls is not False,
        output_schema=_output_schema(request.response_format),
    )


def to_agent_request(request: ChatRequest) -> AgentRequest:
    """What an agent takes of ``request``; tools, thinking and stops are its own: the caller's are refused by name."""
    _refuse_extras(request, "an agent")
    for name in ("tools", "tool_choice", "stop", "reasoning_effort", "response_format"):
        value = getattr(request, name)
        if value and value not in ("auto", "none", {"type": "text"}):
            raise InvalidRequest(
                f"`{name}` is not taken with an agent: what it may do is declared with it. Call a model for that.",
                param=name,
            )
    if request.top_p not in (None, 1):
        raise InvalidRequest("`top_p` is not taken with an agent; use `temperature`.", param="top_p")
    system, messages = _conversation(request)
    return AgentRequest(messages, system, request.output_limit, request.temperature, request.user)


def _output_schema(asked: dict[str, Any] | None) -> OutputSchema | None:
    match asked:
        case None | {"type": "text"}:
            return None
        case {"type": "json_schema", "json_schema": {"name": str(name), "schema": dict(schema)}}:
            return OutputSchema(name, schema)
    raise InvalidRequest(
        "`response_format` is text, or a `json_schema` with a name and a schema: this model's provider has no other.",
        param="response_format",
    )


def _refuse_inside(part: BaseModel, where: str, known: frozenset[str] = frozenset()) -> None:
    """Refuse what a part of the request has that would not be carried; what says nothing may stay."""
    for name, value in (part.model_extra or {}).items():
        if value in (None, [], {}, "") or name in known or name in _HINTS:
            continue
        raise InvalidRequest(
            f"`{name[:64]}` cannot be carried to this model's provider; leave it out.", param=f"{where}.{name[:64]}"
        )


def _refuse_extras(request: ChatRequest, who: str) -> None:
    for name, value in (request.model_extra or {}).items():
        if value is None or name in IGNORED or any(value == neutral for neutral in _NEUTRAL.get(name, ())):
            continue
        raise InvalidRequest(f"`{name[:64]}` cannot be honoured by {who}; leave it out.", param=name[:64])


def _stop(request: ChatRequest) -> tuple[str, ...]:
    stop = (request.stop,) if isinstance(request.stop, str) else request.stop or ()
    if len(stop) > _MAX_STOP or not all(stop):
        raise InvalidRequest(f"`stop` is one to {_MAX_STOP} texts, none of them empty.", param="stop")
    return stop


def _thinking(effort: str | None) -> Literal["off", "low", "medium", "high"]:
    match effort:
        case None | "none":
            return "off"
        case "minimal" | "low":
            return "low"
        case "medium":
            return "medium"
        case "high" | "xhigh" | "max":
            return "high"
    raise InvalidRequest(
        "`reasoning_effort` is one of none, minimal, low, medium, high, xhigh and max.", param="reasoning_effort"
    )


def _tools(request: ChatRequest) -> tuple[ToolSpec, ...]:
    for index, tool in enumerate(request.tools or ()):
        _refuse_inside(tool, f"tools[{index}]")
        _refuse_inside(tool.function, f"tools[{index}].function")
    empty: dict[str, Any] = {"type": "object", "properties": {}}
    return tuple(
        ToolSpec(t.function.name, t.function.description or "", t.function.parameters or empty, t.function.strict)
        for t in request.tools or ()
    )


def _tool_choice(request: ChatRequest) -> str:
    """auto, none, required, or the name of one of the request's tools."""
    choice = request.tool_choice
    if choice is None or choice in ("auto", "none", "required"):
        return choice if isinstance(choice, str) else "auto"
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if isinstance(name, str) and any(t.function.name == name for t in request.tools or ()):
        return name
    raise InvalidRequest(
        "`tool_choice` is auto, none, required, or a function that `tools` declares.", param="tool_choice"
    )


def _conversation(request: ChatRequest) -> tuple[str, tuple[Message, ...]]:
    """The system text, joined in order, and the messages, neighbours of one role merged."""
    system: list[str] = []
    merged: list[tuple[Literal["user", "assistant"], list[Block]]] = []
    known: set[str] = set()
    for index, message in enumerate(request.messages):
        where = f"messages[{index}]"
        if message.role in ("system", "developer"):
            system.append(_plain(message, where))
            continue
        blocks = _blocks(message, where, known)
        role: Literal["user", "assistant"] = "assistant" if message.role == "assistant" else "user"
        if merged and merged[-1][0] == role:
            merged[-1][1].extend(blocks)
        else:
            merged.append((role, blocks))
    if not merged:
        raise InvalidRequest("`messages` holds nothing but instructions; add a user message.", param="messages")
    return "\n\n".join(s for s in system if s), tuple(Message(role, tuple(blocks)) for role, blocks in merged)


def _blocks(message: ChatMessage, where: str, known: set[str]) -> list[Block]:
    _refuse_inside(message, where, _ECHOED.get(message.role, frozenset()))
    if message.name and message.role != "tool":
        raise InvalidRequest(
            "`name` cannot be carried to this model's provider; say it in the text.", param=f"{where}.name"
        )
    if message.role == "tool":
        if not message.tool_call_id:
            raise InvalidRequest("A tool message names its call in `tool_call_id`.", param=f"{where}.tool_call_id")
        if message.tool_call_id not in known:
            raise InvalidRequest(
                "This tool message answers no call of an assistant message before it.", param=f"{where}.tool_call_id"
            )
        return [ToolResult(message.tool_call_id, _plain(message, where))]
    blocks: list[Block] = []
    if message.role == "assistant":
        blocks += _thoughts(message.model_extra or {}, where)
    blocks += _content(message, where)
    for index, call in enumerate(message.tool_calls or ()):
        if message.role != "assistant":
            raise InvalidRequest("Only an assistant message has `tool_calls`.", param=f"{where}.tool_calls")
        if call.type != "function":
            raise InvalidRequest("Only function calls are supported.", param=f"{where}.tool_calls[{index}].type")
        _refuse_inside(call, f"{where}.tool_calls[{index}]", _ECHOED_CALL)
        _refuse_inside(call.function, f"{where}.tool_calls[{index}].function", _ECHOED_CALL)
        known.add(call.id)
        blocks.append(ToolCall(call.id, call.function.name, call.function.arguments))
    if not blocks:
        raise InvalidRequest("A message needs content.", param=f"{where}.content")
    return blocks


def _thoughts(extra: Mapping[str, Any], where: str) -> list[Thinking]:
    """An earlier answer's reasoning, with its vendor's proof where that came along."""
    if extra.get("reasoning_details"):
        return from_details(extra["reasoning_details"], f"{where}.reasoning_details")
    reasoning = extra.get("reasoning_content")
    return [Thinking(reasoning)] if isinstance(reasoning, str) and reasoning else []


def _content(message: ChatMessage, where: str) -> list[Block]:
    if message.content is None:
        return [Text(message.refusal)] if message.refusal else []
    if isinstance(message.content, str):
        return [Text(message.content)] if message.content else []
    blocks: list[Block] = []
    for index, part in enumerate(message.content):
        at = f"{where}.content[{index}]"
        _refuse_inside(part, at)
        if part.type == "text" and part.text is not None:
            blocks += [Text(part.text)] if part.text else []
        elif part.type == "refusal" and part.refusal is not None and message.role == "assistant":
            blocks.append(Text(part.refusal))
        elif part.type == "image_url" and part.image_url is not None and message.role == "user":
            blocks.append(_image(part.image_url, at))
        else:
            raise InvalidRequest(f"A part of type {part.type[:40]!r} cannot be used here.", param=f"{at}.type")
    return blocks


def _plain(message: ChatMessage, where: str) -> str:
    blocks = _content(message, where)
    if not all(isinstance(b, Text) for b in blocks):
        raise InvalidRequest(f"A {message.role} message holds text only.", param=f"{where}.content")
    return "".join(b.text for b in blocks if isinstance(b, Text))


def _image(image: ImageUrl | str, where: str) -> Image:
    url = image if isinstance(image, str) else image.url
    if url.startswith("https://"):
        return Image(url=url)
    match = _DATA_URL.fullmatch(url)
    if match is None:
        raise InvalidRequest(
            "An image is an https URL, or a data URL of base64 PNG, JPEG, GIF or WebP.", param=f"{where}.image_url.url"
        )
    return Image(media_type=match[1], data=match[2])
