"""Anthropic's Messages as callers write them, for a model of another vendor or an agent: parsed, and said neutrally.

The format is https://docs.anthropic.com/en/api/messages. What cannot be carried is refused by the field's name and
never dropped. Marks for a cache are hints: the other vendors cache by themselves. What goes back is in
`anthropic_stream`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from carrel.errors import InvalidRequest
from carrel.wire.anthropic_messages import THINKING_BUDGETS
from carrel.wire.anthropic_stream import MessageStream, message_body
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

Json = Mapping[str, Any]
Level = Literal["off", "low", "medium", "high"]
_HINTS: Final = frozenset({"cache_control", "metadata", "diagnostics", "betas", "user_profile_id", "workspace_id"})
_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {
    "service_tier": ("auto", "standard_only"), "speed": ("standard",), "top_k": (), "inference_geo": (),
}  # fmt: skip
_LEVELS: Final[Mapping[str, Level]] = {
    "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"
}  # fmt: skip
_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="allow", defer_build=True, cache_strings="keys")


class CallerMessage(_Part):
    """One message; its blocks are read one by one."""

    role: Literal["user", "assistant"]
    content: str | tuple[dict[str, Any], ...]


class CallerTool(_Part):
    """A tool that the caller runs itself."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
    input_schema: dict[str, Any]
    description: str | None = None
    type: str | None = None
    strict: bool | None = None


class MessagesRequest(_Part):
    """A request body. ``model_extra`` holds the fields that are not named here."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    messages: Annotated[tuple[CallerMessage, ...], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    system: str | tuple[dict[str, Any], ...] | None = None
    stream: bool | None = None
    tools: tuple[CallerTool, ...] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    output_format: dict[str, Any] | None = None
    stop_sequences: tuple[str, ...] | None = None
    temperature: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    metadata: dict[str, Any] | None = None

    @property
    def user(self) -> str | None:
        """Whom the caller says that it speaks for."""
        user = (self.metadata or {}).get("user_id")
        return user if isinstance(user, str) and user else None


def parse(body: bytes, *, counts: bool = False) -> "MessagesAsked":
    """The request in ``body``; raises InvalidRequest that names the field. ``counts``: its tokens are to be counted."""
    request = read_body(MessagesRequest, body)
    if request.max_tokens is None and not counts:
        raise InvalidRequest("`max_tokens` is missing: the most tokens of the answer.", param="max_tokens")
    return MessagesAsked(request)


@dataclass(frozen=True, slots=True)
class MessagesAsked:
    """See `asked.Asked`."""

    request: MessagesRequest

    @property
    def model(self) -> str:
        return self.request.model

    @property
    def wants_stream(self) -> bool:
        return bool(self.request.stream)

    def to_model(self, *, model: str, max_output: int) -> ModelRequest:
        request = self.request
        _refuse(request.model_extra or {}, "", "this model's provider", _HINTS)
        if request.messages[-1].role == "assistant":
            raise InvalidRequest(
                "This model's provider does not go on with an assistant's words: end with a user's message.",
                param=f"messages[{len(request.messages) - 1}].role",
            )
        limit = request.max_tokens or max_output
        if limit > max_output:
            raise InvalidRequest(
                f"`max_tokens` is {limit}; this model writes at most {max_output} tokens.", param="max_tokens"
            )
        choice, parallel = _tool_choice(request)
        return ModelRequest(
            model=model, messages=_messages(request), system=_system(request), tools=_tools(request),
            tool_choice=choice, max_tokens=limit, thinking=_thinking(request), temperature=request.temperature,
            top_p=request.top_p, stop=request.stop_sequences or (), parallel_tool_calls=parallel,
            output_schema=_output_schema(request),
        )  # fmt: skip

    def to_agent(self) -> AgentRequest:
        request = self.request
        _refuse(request.model_extra or {}, "", "an agent", _HINTS)
        given: dict[str, object] = {
            "tools": request.tools, "stop_sequences": request.stop_sequences, "output_format": request.output_format,
            "thinking": None if request.thinking == {"type": "disabled"} else request.thinking,
            "output_config": request.output_config, "top_p": None if request.top_p == 1 else request.top_p,
            "tool_choice": None if (request.tool_choice or {}).get("type") in ("auto", "none") else request.tool_choice,
        }  # fmt: skip
        name = next((name for name, value in given.items() if value), None)
        if name is not None:
            raise InvalidRequest(
                f"`{name}` is not taken with an agent: what it may do is declared with it. Call a model for that.",
                param=name,
            )
        messages = _messages(request)
        if any(isinstance(b, ToolResult) and b.images for m in messages for b in m.content):
            raise InvalidRequest("An agent takes no images in a tool's result.", param="messages")
        return AgentRequest(messages, _system(request), request.max_tokens, request.temperature, request.user)

    def streaming(self, *, id: str, created: int) -> MessageStream:  # noqa: A002 - Anthropic's name
        return MessageStream(id=f"msg_{id}", model=self.model)

    def whole(self, finished: Finished, *, id: str, created: int) -> dict[str, Any]:  # noqa: A002 - Anthropic's name
        return message_body(finished, id=f"msg_{id}", model=self.model)


def _refuse(given: Json, where: str, who: str, known: frozenset[str]) -> None:
    for name, value in given.items():
        if value in (None, [], {}) or name in known or value in _NEUTRAL.get(name, ()):
            continue
        param = f"{where}.{name[:64]}" if where else name[:64]
        raise InvalidRequest(f"`{param}` cannot be honoured by {who}; leave it out.", param=param)


def _refuse_inside(block: Json, where: str, *known: str) -> None:
    _refuse(block, where, "this model's provider", frozenset({"type", "cache_control", *known}))


def _system(request: MessagesRequest) -> str:
    if request.system is None or isinstance(request.system, str):
        return request.system or ""
    return "\n\n".join(_text(block, f"system[{number}]").text for number, block in enumerate(request.system))


def _text(block: Json, where: str) -> Text:
    if block.get("type") != "text" or not isinstance(block.get("text"), str):
        raise InvalidRequest(f"A block of type {str(block.get('type'))[:40]!r} cannot be used here.", param=where)
    _refuse_inside(block, where, "text")
    return Text(block["text"])


def _messages(request: MessagesRequest) -> tuple[Message, ...]:
    """The messages, neighbours of one role merged, as the vendor merges them."""
    merged: list[tuple[Literal["user", "assistant"], list[Block]]] = []
    known: set[str] = set()
    for number, message in enumerate(request.messages):
        where = f"messages[{number}]"
        _refuse(message.model_extra or {}, where, "this model's provider", frozenset())
        blocks: list[Block] = []
        if isinstance(message.content, str):
            blocks += [Text(message.content)] if message.content else []
        else:
            for index, block in enumerate(message.content):
                blocks.append(_block(block, f"{where}.content[{index}]", message.role, known))
        if merged and merged[-1][0] == message.role:
            merged[-1][1].extend(blocks)
        elif blocks:
            merged.append((message.role, blocks))
    if not merged:
        raise InvalidRequest("`messages` says nothing; add a user message.", param="messages")
    return tuple(Message(role, tuple(blocks)) for role, blocks in merged)


def _block(block: Json, where: str, role: str, known: set[str]) -> Block:
    match (role, block):
        case (_, {"type": "text"}):
            return _text(block, where)
        case ("user", {"type": "image"}):
            return _image(block, where)
        case ("user", {"type": "tool_result", "tool_use_id": str(call_id)}):
            if call_id not in known:
                raise InvalidRequest("This result answers no call of a message before it.", param=where)
            _refuse_inside(block, where, "tool_use_id", "content", "is_error")
            text, images = _result(block.get("content"), f"{where}.content")
            return ToolResult(call_id, text, block.get("is_error") is True, images)
        case ("assistant", {"type": "tool_use", "id": str(call_id), "name": str(name), "input": dict(value)}):
            _refuse_inside(block, where, "id", "name", "input", "caller")
            known.add(call_id)
            return ToolCall(call_id, name, json.dumps(value, ensure_ascii=False))
        case ("assistant", {"type": "thinking", "thinking": str(text)}):
            signature = block.get("signature")
            return Thinking(text, signature if isinstance(signature, str) else "")
        case ("assistant", {"type": "redacted_thinking", "data": str(data)}):
            return Thinking("", redacted=data)
    raise InvalidRequest(
        f"A block of type {str(block.get('type'))[:40]!r} cannot be carried to this model's provider.",
        param=f"{where}.type",
    )


def _image(block: Json, where: str) -> Image:
    _refuse_inside(block, where, "source")
    match block.get("source"):
        case {"type": "url", "url": str(url)} if url.startswith("https://"):
            return Image(url=url)
        case {"type": "base64", "media_type": str(kind), "data": str(data)} if kind in _IMAGES:
            return Image(kind, data)
    raise InvalidRequest(
        "An image is an https URL, or base64 of a PNG, JPEG, GIF or WebP: other sources cannot be carried.",
        param=f"{where}.source",
    )


def _result(content: object, where: str) -> tuple[str, tuple[Image, ...]]:
    if content is None or isinstance(content, str):
        return content or "", ()
    texts: list[str] = []
    images: list[Image] = []
    for index, block in enumerate(content if isinstance(content, list) else [content]):
        at = f"{where}[{index}]"
        if isinstance(block, dict) and block.get("type") == "image":
            images.append(_image(block, at))
        elif isinstance(block, dict):
            texts.append(_text(block, at).text)
        else:
            raise InvalidRequest("The content of a result is text or a list of blocks.", param=where)
    return "\n".join(texts), tuple(images)


def _tools(request: MessagesRequest) -> tuple[ToolSpec, ...]:
    tools: list[ToolSpec] = []
    for number, tool in enumerate(request.tools or ()):
        where = f"tools[{number}]"
        if tool.type not in (None, "custom"):
            raise InvalidRequest(
                f"A tool of type {tool.type[:64]!r} is the other vendor's own; only tools with an `input_schema` of "
                "yours can be carried.", param=f"{where}.type",
            )  # fmt: skip
        _refuse(tool.model_extra or {}, where, "this model's provider", frozenset({"cache_control", "type"}))
        tools.append(ToolSpec(tool.name, tool.description or "", tool.input_schema, tool.strict))
    return tuple(tools)


def _tool_choice(request: MessagesRequest) -> tuple[str, bool]:
    """auto, none, required or a tool's name; and whether several calls at once are welcome."""
    choice = request.tool_choice or {"type": "auto"}
    parallel = choice.get("disable_parallel_tool_use") is not True
    match choice:
        case {"type": "auto" | "none" as kind}:
            return kind, parallel
        case {"type": "any"}:
            return "required", parallel
        case {"type": "tool", "name": str(name)} if any(tool.name == name for tool in request.tools or ()):
            return name, parallel
    raise InvalidRequest("`tool_choice` is auto, any, none, or a tool that `tools` declares.", param="tool_choice")


def _thinking(request: MessagesRequest) -> Level:
    effort = (request.output_config or {}).get("effort")
    if effort is not None and effort not in _LEVELS:
        raise InvalidRequest(f"`output_config.effort` is one of {', '.join(_LEVELS)}.", param="output_config.effort")
    match request.thinking:
        case None | {"type": "adaptive"}:
            return _LEVELS[effort] if effort is not None else "off" if request.thinking is None else "high"
        case {"type": "disabled"}:
            return "off"
        case {"type": "enabled", "budget_tokens": int(budget)}:
            fitting = (level for level in ("low", "medium") if budget <= THINKING_BUDGETS[level])
            return _LEVELS[next(fitting, "high")]
    raise InvalidRequest("`thinking` is adaptive, disabled, or enabled with `budget_tokens`.", param="thinking")


def _output_schema(request: MessagesRequest) -> OutputSchema | None:
    config = request.output_config or {}
    _refuse_inside(config, "output_config", "effort", "format")
    match config.get("format") or request.output_format:
        case None:
            return None
        case {"type": "json_schema", "schema": dict(schema)}:
            return OutputSchema("answer", schema)
    raise InvalidRequest("The output's format is a `json_schema` with a `schema`.", param="output_config.format")
