"""A transcript of OpenClaw's, line by line, into one of ours. Pure.

Source: versions 1 to 3 of its session files: a header, then entries that name the one before by ``parentId``. What the
conversation is now is the way from its newest leaf back to its root; other branches were left behind there too.
"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from carrel.imports.values import loads

MOST_LINES: Final = 1_000_000
_SIDES: Final = frozenset({"label", "session_info", "model_change", "thinking_level_change", "custom", "leaf"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ROLES: Final = {"user": "user", "assistant": "assistant"}


@dataclass(slots=True)
class Converted:
    """``lines`` are entries of ours as JSON values, without a header. ``notes`` say what is not as it was."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    began: datetime = _EPOCH
    notes: list[str] = field(default_factory=list)
    messages: int = 0


def parse_lines(data: bytes) -> tuple[list[dict[str, Any]], list[int]]:
    """The JSON objects in ``data`` and the numbers of the lines that are none."""
    found: list[dict[str, Any]] = []
    broken: list[int] = []
    for number, line in enumerate(io.BytesIO(data), 1):
        if not line.strip():
            continue
        try:
            value = loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict) and number <= MOST_LINES:
            found.append(value)
        else:
            broken.append(number)
    return found, broken


def convert(events: list[dict[str, Any]], broken: Sequence[int] = ()) -> Converted:
    """What ``events``, a whole transcript, is here. They are let go of on the way: a long one is there only once."""
    done = Converted()
    if broken:
        told = ", ".join(map(str, broken[:10])) + ("…" if len(broken) > 10 else "")
        done.notes.append(f"lines that are no JSON are left out: {told}")
    entries = [event for event in events if event.get("type") != "session"]
    header = next((event for event in events if event.get("type") == "session"), {})
    done.began = moment(header.get("timestamp")) or next((m for e in entries if (m := _when(e))), _EPOCH)
    way = _way(entries, done)
    way.reverse()
    events.clear()
    entries.clear()
    ids: dict[str, int] = {}
    state: dict[str, Any] = {"provider": None, "model": None}
    last = done.began
    while way:
        event = way.pop()
        last = _when(event) or last
        for line in _lines(event, state, ids, done):
            number = len(done.lines) + 1
            # Of one message's lines the first is what others refer to.
            ids.setdefault(str(event.get("id")), number)
            done.lines.append({"id": number, "ts": last.isoformat(), **line})
    return done


def _way(entries: Sequence[Mapping[str, Any]], done: Converted) -> list[Mapping[str, Any]]:
    """From the root to the newest leaf. Entries without ids (version 1) are a chain as they stand."""
    known: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        key = entry.get("id")
        if isinstance(key, str):
            if key in known:
                done.notes.append(f"the id {key[:40]!r} is there twice; the first counts")
                continue
            known[key] = entry
    if not known:
        return list(entries)
    leaf = next((e for e in reversed(entries) if _word(e, "id") in known and e.get("type") != "leaf"), None)
    turned = next((e for e in reversed(entries) if e.get("type") == "leaf"), None)
    if turned is not None and _word(turned, "targetId") in known:
        leaf = known[turned["targetId"]]
    way: list[Mapping[str, Any]] = []
    seen: set[str] = set()
    while leaf is not None and leaf["id"] not in seen:
        seen.add(leaf["id"])
        way.append(leaf)
        parent = leaf.get("parentId")
        leaf = known.get(parent) if isinstance(parent, str) else None
    way.reverse()
    others = sum(1 for e in entries if _word(e, "id") not in seen and _word(e, "type") not in _SIDES)
    if others:
        done.notes.append(f"{others} entries of branches that were left behind are left out")
    return way


def _lines(
    event: Mapping[str, Any], state: dict[str, Any], ids: Mapping[str, int], done: Converted
) -> Iterable[dict[str, Any]]:
    kind = _word(event, "type")
    if kind == "model_change":
        state.update(provider=event.get("provider"), model=event.get("modelId"))
    elif kind == "message" and isinstance(event.get("message"), Mapping):
        yield from _message(event["message"], done)
    elif kind == "compaction":
        kept = ids.get(str(event.get("firstKeptEntryId")), len(done.lines) + 1)
        yield {
            "type": "compaction", "summary": _clean(event.get("summary")), "keep_from": kept,
            "tokens_before": _count(event.get("tokensBefore")),
        }  # fmt: skip
    elif kind in ("branch_summary", "custom_message"):
        text = _clean(event.get("summary") if kind == "branch_summary" else _texts(event.get("content")))
        if text:
            done.messages += 1
            yield {"type": "message", "role": "user", "content": [{"type": "text", "text": text}]}
    elif kind not in _SIDES:
        done.notes.append(f"an entry of the type {kind[:40]!r} is left out")


def _message(message: Mapping[str, Any], done: Converted) -> Iterable[dict[str, Any]]:
    role, content = _word(message, "role"), message.get("content")
    if role in _ROLES:
        blocks = [block for raw in _list(content) if (block := _block(raw, done)) is not None]
        if blocks:
            done.messages += 1
            who = {name: _clean(message[name])[:200] for name in ("provider", "model") if message.get(name)}
            yield {"type": "message", "role": role, "content": blocks, **(who if role == "assistant" else {})}
        if role == "assistant":
            yield from _usage(message)
            for block in blocks:
                if block["type"] == "tool_call":
                    yield {"type": "tool_call", "call_id": block["call_id"], "name": block["name"]}
    elif role == "toolResult":
        yield {
            "type": "tool_result", "call_id": _clean(message.get("toolCallId")), "content": _texts(content),
            "name": _clean(message.get("toolName")) or "tool", "is_error": message.get("isError") is True,
        }  # fmt: skip
    elif role == "bashExecution":
        text = f"$ {_clean(message.get('command'))}\n{_clean(message.get('output'))}"
        done.messages += 1
        yield {"type": "message", "role": "user", "content": [{"type": "text", "text": text}]}
    else:
        done.notes.append(f"a message of the role {role[:40]!r} is left out")


def _usage(message: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    usage = message.get("usage")
    if not isinstance(usage, Mapping) or not message.get("model"):
        return
    names = {"input": "input", "output": "output", "cache_read": "cacheRead", "cache_write": "cacheWrite"}
    yield {
        "type": "model_call", "request_id": "imported", "purpose": "turn", "model": _clean(message["model"])[:200],
        "provider": _clean(message.get("provider"))[:200] or "unknown", "outcome": "ok",
        "usage": {ours: _count(usage.get(theirs)) for ours, theirs in names.items()}, "estimated": False,
    }  # fmt: skip


def _block(raw: Any, done: Converted) -> dict[str, Any] | None:
    if isinstance(raw, str):
        return {"type": "text", "text": _clean(raw)} if raw else None
    if not isinstance(raw, Mapping):
        return None
    match raw.get("type"):
        case "text":
            return {"type": "text", "text": _clean(raw.get("text"))} if raw.get("text") else None
        case "image":
            data = raw.get("data") if isinstance(raw.get("data"), str) else ""
            media = _clean(raw.get("mimeType")) or "image/png"
            return {"type": "image", "media_type": media, "data": data} if data else None
        case "thinking":
            signature = raw.get("thinkingSignature")
            return {
                "type": "thinking", "text": _clean(raw.get("thinking")),
                "signature": signature if isinstance(signature, str) else "",
            }  # fmt: skip
        case "toolCall":
            return {
                "type": "tool_call", "call_id": _clean(raw.get("id")) or "call", "name": _clean(raw.get("name")),
                "arguments": json.dumps(raw.get("arguments") or {}),
            }  # fmt: skip
    done.notes.append(f"a block of the type {str(raw.get('type'))[:40]!r} is left out")
    return None


def _list(content: Any) -> Sequence[Any]:
    return content if isinstance(content, list) else [content]


def _texts(content: Any) -> str:
    """The text of a content, a word for each picture in it."""
    parts = []
    for raw in _list(content):
        if isinstance(raw, str):
            parts.append(raw)
        elif isinstance(raw, Mapping):
            parts.append(str(raw.get("text", "")) if raw.get("type") == "text" else f"[{str(raw.get('type'))[:20]}]")
    return _clean("\n".join(parts))


def _clean(value: Any) -> str:
    """Text that can be kept: no lone surrogates."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    return text.encode("utf-8", "replace").decode()


def _word(entry: Mapping[str, Any], name: str) -> str:
    """A member that is one of a set of words, or an id; text whatever it is."""
    value = entry.get(name)
    return value if isinstance(value, str) else str(value)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 50 else 0


def _when(event: Mapping[str, Any]) -> datetime | None:
    message = event.get("message")
    inner = message.get("timestamp") if isinstance(message, Mapping) else None
    return moment(event.get("timestamp")) or moment(inner)


def moment(value: Any) -> datetime | None:
    """A time as text or in milliseconds since the epoch; None where it is neither."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000, UTC)
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None
