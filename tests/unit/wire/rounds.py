"""Conversations and answers of every shape, for tests that send them there and back."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from hypothesis import strategies as st

from carrel.declare.rate_card import TokenCounts
from carrel.wire.asked import AnswerStream
from carrel.wire.conversation import (
    Block,
    Finished,
    Image,
    Message,
    ModelEvent,
    ModelRequest,
    OutputSchema,
    StopReason,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ThinkingProof,
    ToolCall,
    ToolDelta,
    ToolResult,
    ToolSpec,
)
from carrel.wire.sse import SseDecoder

WORDS: Final = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=12)
NAMES: Final = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,11}", fullmatch=True)
IMAGES: Final = st.one_of(
    st.builds(Image, st.sampled_from(["image/png", "image/webp"]), st.sampled_from(["aGk=", "AAAA"])),
    st.builds(lambda name: Image(url=f"https://example.com/{name}.png"), NAMES),
)
SCHEMA: Final[dict[str, Any]] = {"type": "object", "properties": {"a": {"type": "integer"}}}
VALUES: Final = st.dictionaries(NAMES, st.one_of(st.integers(), WORDS, st.lists(WORDS, max_size=2)), max_size=3)
PROVEN: Final = st.one_of(
    st.builds(Thinking, WORDS, st.sampled_from(["c2ln", "bmF0"])), st.builds(lambda d: Thinking("", redacted=d), WORDS)
)
COUNTS: Final = st.builds(
    lambda i, r, w, o, s: TokenCounts(input=i, cache_read=r, cache_write=w, output=o, reasoning=s),
    *[st.integers(0, 10**6) for _ in range(5)],
)


@st.composite
def conversations(draw: st.DrawFn, *, thinking: bool = True, images: bool = True) -> tuple[Message, ...]:
    """Turns of a user and an assistant, with tool loops; each block is something, and ends with the user."""
    out: list[Message] = []
    for turn in range(draw(st.integers(1, 3))):
        said: list[Block] = [Text(draw(WORDS))]
        if images and draw(st.booleans()):
            said.append(draw(IMAGES))
        results: list[Block] = []
        if out and isinstance(out[-1].content[-1], ToolCall):
            for block in out[-1].content:
                if isinstance(block, ToolCall):
                    pictures = tuple(draw(st.lists(IMAGES, max_size=1))) if images else ()
                    results.append(ToolResult(block.id, draw(WORDS), images=pictures))
            said = said if draw(st.booleans()) else []
        out += [Message("user", (*results, *said)), Message("assistant", tuple(draw(answers(turn, thinking=thinking))))]
    return tuple(out[:-1])


@st.composite
def answers(draw: st.DrawFn, turn: int = 0, *, thinking: bool = True) -> list[Block]:
    """What an assistant says: thoughts, a text, calls."""
    blocks: list[Block] = [draw(PROVEN)] if thinking and draw(st.booleans()) else []
    calls = draw(st.integers(0, 2))
    if draw(st.booleans()) or not calls:
        blocks.append(Text(draw(WORDS)))
    blocks += [
        ToolCall(f"call_{turn}_{n}", draw(NAMES), json.dumps(draw(VALUES), ensure_ascii=False)) for n in range(calls)
    ]
    return blocks


@st.composite
def requests(draw: st.DrawFn, *, thinking: bool = True, images: bool = True) -> ModelRequest:
    """Requests with all that a dialect can say."""
    name = draw(NAMES)
    tool = ToolSpec(name, draw(WORDS), SCHEMA, draw(st.sampled_from([None, True])))
    tools = draw(st.sampled_from([(), (tool,)]))
    choice = draw(st.sampled_from(["auto", "none", "required", name])) if tools else "auto"
    return ModelRequest(
        model="m", messages=draw(conversations(thinking=thinking, images=images)),
        system=draw(st.one_of(st.just(""), WORDS)),
        tools=tools, tool_choice=choice, max_tokens=draw(st.integers(1, 4096)),
        temperature=draw(st.sampled_from([None, 0.0, 0.5, 1.0])), top_p=draw(st.sampled_from([None, 0.9])),
        stop=draw(st.sampled_from([(), ("END",)])),
        parallel_tool_calls=not tools or choice == "none" or draw(st.booleans()),
        output_schema=draw(st.sampled_from([None, OutputSchema("answer", SCHEMA)])),
    )  # fmt: skip


@st.composite
def finished(draw: st.DrawFn, *, thinking: bool = True) -> Finished:
    """Whole answers."""
    blocks = draw(answers(thinking=thinking))
    stop: StopReason = (
        "tool_calls" if isinstance(blocks[-1], ToolCall) else draw(st.sampled_from(["end", "length", "refusal"]))
    )
    return Finished(Message("assistant", tuple(blocks)), stop, draw(COUNTS))


def pieces_of(answer: Finished, *, tools: bool = True) -> list[ModelEvent]:
    """The events that a vendor's reader gives for ``answer``."""
    events: list[ModelEvent] = []
    for block in answer.message.content:
        match block:
            case Thinking(text, signature, redacted):
                events += [ThinkingDelta(piece) for piece in text]
                events.append(ThinkingProof(signature, redacted))
            case Text(text):
                events += [TextDelta(piece) for piece in text]
            case ToolCall(call_id, name, arguments) if tools:
                events.append(ToolDelta(call_id, name, ""))
                events += [ToolDelta(call_id, name, piece) for piece in arguments]
    return [*events, answer]


def records(stream: AnswerStream, events: Iterable[ModelEvent]) -> Sequence[dict[str, Any]]:
    """What a client reads of the stream that ``events`` make; the name of each event is its type's."""
    decoder = SseDecoder()
    found = decoder.feed(b"".join(stream.event(event) for event in events)) + decoder.finish()
    read = [json.loads(event.data) for event in found if event.data != "[DONE]"]
    for event, record in zip(found, read, strict=False):
        assert event.event in ("message", record.get("type"))
    return read
