"""The built-in provider: offline, deterministic, free of keys, and honest that it is no language model.

It drives the real agent loop, tools, sandbox and metering, so that a trial and the tests need no vendor. Its rules are
in docs/reference/demo-provider.md; a test holds that page and this module together.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterable
from typing import Final

from carrel.declare.rate_card import TokenCounts
from carrel.wire.conversation import (
    Block,
    Finished,
    Image,
    Message,
    ModelEvent,
    ModelRequest,
    StopReason,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolResult,
)

PIECE_CHARACTERS: Final = 6
BYTES_PER_TOKEN: Final = 4
IMAGE_TOKENS: Final = 64
QUOTED_CHARACTERS: Final = 8_000
HELP: Final = (
    "I am Carrel's demo provider: a fixed set of rules, no language model. I can call this agent's tools when the "
    "message begins with one of these:\n\n"
    "- `run: COMMAND` runs the rest of the message in the shell\n"
    "- `read: PATH` reads a file\n"
    "- `write: PATH`, with the text on the lines below, writes a file\n"
    '- `tool: NAME {"argument": "value"}` calls any tool; several such lines call them side by side\n\n'
    "To talk to a real model, name a provider and its key in `_gateway.yaml`."
)
_RULE: Final = re.compile(r"\s*(run|read|write|tool):[ \t]?(.*)", re.DOTALL)
_TOOL_LINE: Final = re.compile(r"\s*([A-Za-z0-9_-]{1,64})\s*(.*)", re.DOTALL)
_FENCE: Final = re.compile(r"`{3,}")


def tokens_in(*texts: str) -> int:
    """The demo's token count: a quarter of each text's UTF-8 bytes, rounded up."""
    return sum(-(-len(text.encode()) // BYTES_PER_TOKEN) for text in texts)


class DemoProvider:
    """Answers by rule. It never fails and never goes out to a network."""

    def __init__(self, name: str = "demo") -> None:
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    async def close(self) -> None:
        """Nothing to give back."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """The answer in pieces of a few characters. Tool calls come whole, in the Finished."""
        calls, said = _decide(request)
        blocks: list[Block] = []
        reasoning = ""
        if request.thinking != "off":
            reasoning = f"By my rules I call {len(calls)} tool(s)." if calls else "By my rules I answer with text."
            for piece in _pieces(reasoning):
                yield ThinkingDelta(piece)
            blocks.append(Thinking(reasoning))
        said, stop = _cut(said, request.stop, request.max_tokens)
        if calls and _call_tokens(calls) > request.max_tokens:
            calls, stop = [], "length"
        for piece in _pieces(said):
            yield TextDelta(piece)
            await asyncio.sleep(0)
        if said:
            blocks.append(Text(said))
        blocks += calls
        usage = TokenCounts(
            input=_input_tokens(request),
            output=tokens_in(said) + _call_tokens(calls),
            reasoning=tokens_in(reasoning),
        )
        yield Finished(Message("assistant", tuple(blocks)), "tool_calls" if calls else stop, usage)


def _decide(request: ModelRequest) -> tuple[list[ToolCall], str]:
    """The calls to make, or the text to say."""
    last = next((m for m in reversed(request.messages) if m.role == "user"), None)
    if last is None:
        return [], HELP
    if isinstance(last.content[-1], ToolResult):
        return [], _quote(request, [b for b in last.content if isinstance(b, ToolResult)])
    wanted = _calls_in("\n".join(b.text for b in last.content if isinstance(b, Text)))
    if not wanted:
        return [], HELP
    offered = {tool.name for tool in request.tools} if request.tool_choice != "none" else set()
    missing = sorted({name for name, _ in wanted} - offered)
    if missing:
        have = ", ".join(f"`{name}`" for name in sorted(offered)) or "none"
        return [], f"I was not offered the tool {', '.join(f'`{m}`' for m in missing)}. Tools at hand: {have}."
    if not request.parallel_tool_calls:
        wanted = wanted[:1]
    before = sum(isinstance(block, ToolCall) for message in request.messages for block in message.content)
    return [ToolCall(f"demo_{before + n}", name, arguments) for n, (name, arguments) in enumerate(wanted, 1)], ""


def _calls_in(text: str) -> list[tuple[str, str]]:
    """The tool calls that a message asks for: names and JSON text, which a `tool:` line may leave invalid."""
    match = _RULE.fullmatch(text)
    if match is None:
        return []
    rule, rest = match[1], match[2]
    first, _, below = rest.partition("\n")
    if rule == "run":
        return [("shell", _json(command=rest))] if rest.strip() else []
    if rule == "read":
        return [("file_read", _json(path=first.strip()))] if first.strip() and not below.strip() else []
    if rule == "write":
        return [("file_write", _json(path=first.strip(), content=below))] if first.strip() else []
    lines = [line for line in text.splitlines() if line.strip()]
    asked = [m[2] if (m := _RULE.fullmatch(line)) and m[1] == "tool" else None for line in lines]
    tools = [line for line in asked if line is not None]
    if len(tools) != len(lines):
        tools = [rest]
    named = [_TOOL_LINE.fullmatch(tool) for tool in tools]
    return [(m[1], m[2].strip() or "{}") for m in named if m] if all(named) else []


def _json(**fields: str) -> str:
    return json.dumps(fields, ensure_ascii=False)


def _quote(request: ModelRequest, results: Iterable[ToolResult]) -> str:
    names = {b.id: b.name for m in request.messages for b in m.content if isinstance(b, ToolCall)}
    parts = []
    for result in results:
        name = names.get(result.call_id, "the tool")
        text, note = result.content, ""
        if len(text) > QUOTED_CHARACTERS:
            note = f"\n({len(text) - QUOTED_CHARACTERS} more characters are left out here.)"
            text = text[:QUOTED_CHARACTERS]
        fence = "`" * max(3, 1 + max((len(run) for run in _FENCE.findall(text)), default=0))
        line_end = "" if text.endswith("\n") or not text else "\n"
        verb = "failed" if result.is_error else "gave"
        parts.append(f"`{name}` {verb}:\n\n{fence}\n{text}{line_end}{fence}{note}")
    return "\n\n".join(parts)


def _cut(text: str, stops: Iterable[str], max_tokens: int) -> tuple[str, StopReason]:
    """``text`` up to its first stop text and its token limit, with the reason for its end."""
    reason: StopReason = "end"
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    if ends:
        text, reason = text[: min(ends)], "stop_sequence"
    if tokens_in(text) > max_tokens:
        return text.encode()[: max_tokens * BYTES_PER_TOKEN].decode(errors="ignore"), "length"
    return text, reason


def _pieces(text: str) -> Iterable[str]:
    return (text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS))


def _call_tokens(calls: Iterable[ToolCall]) -> int:
    return sum(tokens_in(call.name, call.arguments) for call in calls)


def _input_tokens(request: ModelRequest) -> int:
    total = tokens_in(request.system)
    for tool in request.tools:
        total += tokens_in(tool.name, tool.description, json.dumps(tool.parameters))
    for message in request.messages:
        for block in message.content:
            match block:
                case Text(text) | Thinking(text):
                    total += tokens_in(text)
                case ToolCall(_, name, arguments):
                    total += tokens_in(name, arguments)
                case ToolResult(_, content):
                    total += tokens_in(content)
                case Image():
                    total += IMAGE_TOKENS
    return total
