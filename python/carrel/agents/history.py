"""From a transcript's lines to the history that a model is sent: well-formed whatever happened to the turns before.

Every tool call is answered, once, by the message right after it; an answer without a call is left out; no message is
empty. What came before the last reset is gone, what came before the last compaction is its summary.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Final

from carrel.agents.entries import CompactionEntry, Entry, MessageEntry, ResetEntry, ToolResultEntry, restored
from carrel.wire.conversation import Block, Image, Message, Text, Thinking, ToolCall, ToolResult

INTERRUPTED: Final = "This call was interrupted before it had a result. What it did until then is not known."
_NO_IMAGE: Final = Text("[an image, which this model cannot see]")
SUMMARY_HEAD: Final = "Summary of the conversation so far, written to make room:\n\n"


@dataclass(frozen=True, slots=True)
class Said:
    """A message of the history. ``entry_id`` is its line's id, 0 for a summary; ``provider`` is who said it."""

    message: Message
    entry_id: int = 0
    provider: str | None = None


def since_reset(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The lines after the last reset."""
    for at in range(len(entries) - 1, -1, -1):
        if isinstance(entries[at], ResetEntry):
            return entries[at + 1 :]
    return entries


def messages_in(entries: Sequence[Entry]) -> list[MessageEntry]:
    """The messages since the last reset, those that a summary stands for among them."""
    return [entry for entry in since_reset(entries) if isinstance(entry, MessageEntry)]


def history(entries: Sequence[Entry]) -> list[Said]:
    """What a model is sent of ``entries``."""
    current = since_reset(entries)
    building = _Building()
    compaction = next((e for e in reversed(current) if isinstance(e, CompactionEntry)), None)
    if compaction is not None:
        building.out.append(Said(Message("user", (Text(SUMMARY_HEAD + compaction.summary),))))
    keep_from = compaction.keep_from if compaction is not None else 0
    for entry in current:
        if entry.id < keep_from:
            continue
        if isinstance(entry, MessageEntry):
            building.message(entry)
        elif isinstance(entry, ToolResultEntry):
            building.result(ToolResult(entry.call_id, entry.content, entry.is_error), entry.id)
    building.answer_calls()
    return building.out


def unanswered(said: Sequence[Said]) -> list[Message]:
    """The user's messages at the end that nobody answered; tool results are no such thing."""
    waiting: list[Message] = []
    for item in reversed(said):
        if item.message.role != "user" or item.entry_id == 0:
            break
        if any(isinstance(block, ToolResult) for block in item.message.content):
            break
        waiting.insert(0, item.message)
    return waiting


def for_model(said: Iterable[Said], *, provider: str, images: bool) -> tuple[Message, ...]:
    """The messages as a model may see them: reasoning goes back to the provider that it came from alone.

    ``images``: whether the model takes them; else a word stands for each.
    """
    fit = (_fit(item.message, thinking=item.provider == provider, images=images) for item in said)
    return tuple(message for message in fit if message.content)


def sound(message: Message, *, taken: Iterable[str] = ()) -> Message:
    """``message`` as it can be kept and sent: no lone surrogates, each tool call with an id of its own.

    ``taken`` are ids that the history has already.
    """
    seen = set(taken)
    blocks: list[Block] = []
    for block in message.content:
        clean = _clean(block)
        if isinstance(clean, ToolCall):
            if not clean.id or clean.id in seen:
                clean = ToolCall(f"call_{token_hex(8)}", clean.name, clean.arguments)
            seen.add(clean.id)
        blocks.append(clean)
    return Message(message.role, tuple(blocks))


def call_ids(said: Iterable[Said]) -> set[str]:
    """The ids of all tool calls in the history."""
    return {block.id for item in said for block in item.message.content if isinstance(block, ToolCall)}


@dataclass(slots=True)
class _Building:
    """The history as far as it is; ``calls`` still wait for the ``results`` that came."""

    out: list[Said] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    answered_at: int = 0
    results: dict[str, ToolResult] = field(default_factory=dict)

    def message(self, entry: MessageEntry) -> None:
        message = restored(entry)
        rest: list[Block] = []
        for block in message.content:
            if not isinstance(block, ToolResult):
                rest.append(block)
            elif message.role == "user":
                self.result(block, entry.id)
        self.answer_calls()
        if not rest or all(isinstance(block, Thinking) for block in rest):
            return
        self.out.append(Said(Message(message.role, tuple(rest)), entry.id, entry.provider))
        if message.role == "assistant":
            self.calls = [block.id for block in rest if isinstance(block, ToolCall)]

    def result(self, result: ToolResult, entry_id: int) -> None:
        if result.call_id in self.calls:
            self.results.setdefault(result.call_id, result)
            self.answered_at = entry_id

    def answer_calls(self) -> None:
        """Put the results of the calls before in their order, with a word for each that has none."""
        if self.calls:
            answers = tuple(self.results.get(c, ToolResult(c, INTERRUPTED, is_error=True)) for c in self.calls)
            self.out.append(Said(Message("user", answers), max(self.answered_at, self.out[-1].entry_id)))
        self.calls, self.results = [], {}


def _fit(message: Message, *, thinking: bool, images: bool) -> Message:
    kept = (b for b in message.content if thinking or not isinstance(b, Thinking))
    return Message(message.role, tuple(b if images or not isinstance(b, Image) else _NO_IMAGE for b in kept))


def _clean(block: Block) -> Block:
    match block:
        case Text(text):
            return Text(clean_text(text))
        case Thinking(text, signature, redacted):
            return Thinking(clean_text(text), clean_text(signature), clean_text(redacted))
        case ToolCall(call_id, name, arguments):
            return ToolCall(clean_text(call_id), clean_text(name), clean_text(arguments))
        case ToolResult(call_id, content, is_error):
            return ToolResult(clean_text(call_id), clean_text(content), is_error)
        case Image(media_type, data, url):
            return Image(clean_text(media_type), clean_text(data), clean_text(url))


def clean_text(text: str) -> str:
    """``text`` with a question mark for each lone surrogate, which no encoding can carry."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
