"""Chat completions that are to be kept: the whole of an answer is put together as it passes."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Self

from carrel.relay.dialects.chat import ChatFields, ChatObserver
from carrel.relay.observe import Marks, Seen, StreamObserver, record_in
from carrel.relay.renamed import renamed, renamed_event, with_id

Json = dict[str, Any]
MOST_BYTES: Final = 16 << 20
"""A stream's events in bytes; one that is longer is not put together."""
_SAID_ONCE: Final = frozenset({"id", "index", "type", "role", "name"})
"""Members of a delta that name something: some vendors say them again in each piece."""


@dataclass(slots=True, kw_only=True)
class KeptChatFields(ChatFields):
    """``answers`` has the completion, once it is whole, under ``own_id``: the id that its caller sees too.

    Where that is empty it is the vendor's.
    """

    own_id: str = ""
    answers: list[Json] = field(default_factory=list)

    def observer(self, *, hide_usage: bool) -> StreamObserver:
        return _KeepingObserver(self.answers, self.own_id, hide_usage=hide_usage)

    def seen_in(self, body: bytes) -> Seen:
        record = record_in(body)
        if record.get("choices"):
            self.answers.append(with_id(record, self.own_id) if self.own_id else record)
        # Named, for a dataclass with slots is another class than the one that `super` would look for.
        return ChatFields.seen_in(self, body)

    def passed(self, body: bytes) -> bytes:
        return renamed(body, self.answers[-1], self.own_id) if self.own_id and self.answers else body

    def apart(self) -> Self:
        mine = replace(self, answers=[])

        async def written() -> None:
            self.take(mine)
            if self.written is not None:
                await self.written()

        return replace(mine, written=written)

    def take(self, found: Self) -> None:
        self.answers[:] = found.answers


class _KeepingObserver(ChatObserver):
    """Reads every chunk."""

    last_marks: ClassVar[Marks] = ()
    marks: ClassVar[Marks] = (*ChatObserver.marks, (b'"choices"', None), (b'"id"', None))

    def __init__(self, answers: list[Json], own_id: str, *, hide_usage: bool) -> None:
        super().__init__(hide_usage=hide_usage)
        self._answers = answers
        self._own_id = own_id
        self._whole: Json = {}
        self._size = 0

    def _record(self, record: Json, event: bytes) -> bytes:
        self._size += len(event)
        if self._size <= MOST_BYTES:
            self._add(record)
        if self._own_id and ("id" in record or "choices" in record):
            event = renamed_event(event, with_id(record, self._own_id), self._own_id)
        return super()._record(record, event)

    def _hold(self, event: bytes) -> bytes:
        self._end()
        return super()._hold(event)

    def finish(self) -> bytes:
        last = super().finish()
        self._end()
        return last

    def _add(self, record: Json) -> None:
        choices = self._whole.setdefault("choices", [])
        told = {name: value for name, value in record.items() if name not in ("choices", "object")}
        self._whole |= {name: value for name, value in told.items() if value is not None}
        given = record.get("choices")
        for choice in given if isinstance(given, list) else ():
            if isinstance(choice, dict):
                _merge_item(choices, choice)

    def _end(self) -> None:
        if self._answers or not self._whole.get("choices") or self._size > MOST_BYTES:
            return
        choices = [_choice(choice) for choice in self._whole["choices"]]
        answer = {**self._whole, "object": "chat.completion", "choices": choices}
        self._answers.append(with_id(answer, self._own_id) if self._own_id else answer)


def _choice(pieces: Json) -> Json:
    """A choice as a whole answer has it, from the pieces of it."""
    delta = pieces.get("delta")
    said = delta if isinstance(delta, dict) else {}
    message: Json = {"role": "assistant", "content": None, "refusal": None, **said}
    calls = message.get("tool_calls")
    if isinstance(calls, list):
        message["tool_calls"] = [
            {name: value for name, value in call.items() if name != "index"} for call in calls if isinstance(call, dict)
        ]
        message["content"] = message["content"] or None
    rest = {name: value for name, value in pieces.items() if name != "delta"}
    return {"index": 0, "finish_reason": None, "logprobs": None, **rest, "message": message}


def _merge(whole: Json, piece: Json) -> None:
    """Add ``piece`` to ``whole``: text goes on, lists go on or by their items' `index`, the rest is as said last."""
    for name, value in piece.items():
        before = whole.get(name)
        if value is None and before is not None:
            continue
        if isinstance(value, str) and isinstance(before, str) and name not in _SAID_ONCE:
            whole[name] = before + value
        elif isinstance(value, dict) and isinstance(before, dict):
            _merge(before, value)
        elif isinstance(value, list):
            items = whole[name] = before if isinstance(before, list) else []
            for item in value:
                _merge_item(items, item)
        else:
            whole[name] = value


def _merge_item(items: list[Any], item: object) -> None:
    if isinstance(item, dict):
        index = item.get("index")
        same = next((one for one in items if isinstance(one, dict) and one.get("index") == index), None)
        if index is not None and same is not None:
            _merge(same, item)
            return
        made: Json = {}
        _merge(made, item)
        item = made
    items.append(item)
