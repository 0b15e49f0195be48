"""OpenAI's chat completions as callers write them: the request, parsed and translated to the neutral shape.

The format is https://platform.openai.com/docs/api-reference/chat/create. Fields that are not known here are kept, so
that a request may go on to an OpenAI-compatible vendor whole; what a translated request cannot honour is refused by
name and never dropped. What goes back to the caller is in `openai_answer`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from carrel.errors import InvalidRequest
from carrel.wire.conversation import Block, Image, Message, ModelRequest, Text, Thinking, ToolCall, ToolResult, ToolSpec
from carrel.wire.openai_answer import ChatStream, completion, error_body
from carrel.wire.usage import usage_from_anthropic, usage_from_openai
from carrel.wire.wording import wording

__all__ = [
    "AgentRequest",
    "ChatMessage",
    "ChatRequest",
    "ChatStream",
    "completion",
    "error_body",
    "parse",
    "to_agent_request",
    "to_model_request",
    "usage_from_anthropic",
    "usage_from_openai",
]

_NAME: Final = r"^[A-Za-z0-9_-]{1,64}$"
_DATA_URL: Final = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,([A-Za-z0-9+/]+={0,2})")
_MAX_STOP: Final = 16

# Fields that say who asks or how the vendor should keep books. They are read by the edge or not at all, and stay here.
IGNORED: Final = frozenset({"metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"})
# Values of otherwise refused fields that ask for nothing beyond what is done anyway.
_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
    "verbosity": ("medium",),
    "service_tier": ("auto", "default"),
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="allow")


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
class AgentRequest:
    """What of a request an agent takes: the caller's messages, an addition to its prompt, and two limits."""

    messages: tuple[Message, ...]
    system: str
    max_tokens: int | None
    temperature: float | None


def parse(body: bytes) -> ChatRequest:
    """The request in ``body``; raises InvalidRequest that names the field as OpenAI does (`messages[0].role`)."""
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        problem = max(error.errors(include_url=False), key=lambda e: len(e["loc"]))
        if problem["type"] == "json_invalid":
            raise InvalidRequest(f"The body is not JSON: {problem['msg']}.") from None
        param = _path(problem["loc"])
        raise InvalidRequest(f"`{param or 'body'}`: {wording(problem)}.", param=param) from None


def _path(loc: tuple[int | str, ...]) -> str | None:
    """A pydantic location without the names of union members, as `messages[0].content`."""
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
        elif re.fullmatch(r"[a-z_0-9]+", step) and step not in {"str", "int", "float", "bool", "dict", "tuple"}:
            path += f".{step}" if path else step
    return path or None


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
    )


def to_agent_request(request: ChatRequest) -> AgentRequest:
    """What an agent takes of ``request``; tools, thinking and stops are its own: the caller's are refused by name."""
    _refuse_extras(request, "an agent")
    for name in ("tools", "tool_choice", "stop", "reasoning_effort"):
        value = getattr(request, name)
        if value and not (name == "tool_choice" and value in ("auto", "none")):
            raise InvalidRequest(
                f"`{name}` is not taken with an agent: what it may do is declared with it. Call a model for that.",
                param=name,
            )
    if request.top_p not in (None, 1):
        raise InvalidRequest("`top_p` is not taken with an agent; use `temperature`.", param="top_p")
    system, messages = _conversation(request)
    return AgentRequest(messages, system, request.output_limit, request.temperature)


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
    empty: dict[str, Any] = {"type": "object", "properties": {}}
    return tuple(
        ToolSpec(t.function.name, t.function.description or "", t.function.parameters or empty)
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
        reasoning = (message.model_extra or {}).get("reasoning_content")
        if isinstance(reasoning, str) and reasoning:
            blocks.append(Thinking(reasoning))
    blocks += _content(message, where)
    for index, call in enumerate(message.tool_calls or ()):
        if message.role != "assistant":
            raise InvalidRequest("Only an assistant message has `tool_calls`.", param=f"{where}.tool_calls")
        if call.type != "function":
            raise InvalidRequest("Only function calls are supported.", param=f"{where}.tool_calls[{index}].type")
        known.add(call.id)
        blocks.append(ToolCall(call.id, call.function.name, call.function.arguments))
    if not blocks:
        raise InvalidRequest("A message needs content.", param=f"{where}.content")
    return blocks


def _content(message: ChatMessage, where: str) -> list[Block]:
    if message.content is None:
        return [Text(message.refusal)] if message.refusal else []
    if isinstance(message.content, str):
        return [Text(message.content)] if message.content else []
    blocks: list[Block] = []
    for index, part in enumerate(message.content):
        at = f"{where}.content[{index}]"
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
