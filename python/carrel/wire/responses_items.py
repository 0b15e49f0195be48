"""The items of OpenAI's Responses, both ways: a conversation's items as neutral messages, an answer's blocks as items.

The format is https://platform.openai.com/docs/api-reference/responses. What cannot be carried is refused by its place.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from carrel.errors import InvalidRequest
from carrel.wire.conversation import Block, Image, Message, Text, Thinking, ToolCall, ToolResult
from carrel.wire.proofs import is_sealed, seal, unseal, unseal_summary

Json = Mapping[str, Any]
_DATA_URL: Final = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,([A-Za-z0-9+/]+={0,2})")
_OF_ANSWERS: Final = frozenset({"type", "id", "status", "role", "phase"})
"""What an item has from the answer that it came in, which says nothing to a model."""
_WHO: Final = "this model's provider"
_SUMMARY_HEAD: Final = "Summary of the conversation so far, written to make room:\n\n"


def refuse_inside(given: Json, where: str, known: Iterable[str], *, who: str = _WHO) -> None:
    """Refuse what ``given`` has beside ``known``; what says nothing may stay."""
    for name, value in given.items():
        if value in (None, [], {}) or name in known:
            continue
        param = f"{where}.{name[:64]}" if where else name[:64]
        raise InvalidRequest(f"`{param}` cannot be honoured by {who}; leave it out.", param=param)


def conversation(items: Sequence[Json]) -> tuple[list[str], tuple[Message, ...]]:
    """The instructions among ``items``, and the messages, neighbours of one role merged."""
    system: list[str] = []
    merged: list[tuple[Literal["user", "assistant"], list[Block]]] = []
    known: set[str] = set()
    for number, item in enumerate(items):
        where = f"input[{number}]"
        if item.get("type", "message") == "message" and item.get("role") in ("system", "developer"):
            system += [_plain(_content(item, where), where)]
            continue
        role, blocks = _item(item, where, known)
        if merged and merged[-1][0] == role:
            merged[-1][1].extend(blocks)
        elif blocks:
            merged.append((role, blocks))
    if not merged:
        raise InvalidRequest("`input` says nothing; add a user message.", param="input")
    return [text for text in system if text], tuple(Message(role, tuple(blocks)) for role, blocks in merged)


def _item(item: Json, where: str, known: set[str]) -> tuple[Literal["user", "assistant"], list[Block]]:
    match item:
        case {"type": "function_call", "call_id": str(call_id), "name": str(name), "arguments": str(arguments)}:
            refuse_inside(item, where, {*_OF_ANSWERS, "call_id", "name", "arguments"})
            known.add(call_id)
            return "assistant", [ToolCall(call_id, name, arguments)]
        case {"type": "function_call_output", "call_id": str(call_id)}:
            refuse_inside(item, where, {*_OF_ANSWERS, "call_id", "name", "output"})
            if call_id not in known:
                raise InvalidRequest("This output answers no call of an item before it.", param=f"{where}.call_id")
            return "user", [_output(call_id, item.get("output"), f"{where}.output")]
        case {"type": "reasoning"}:
            thinking = _reasoning(item)
            return "assistant", [thinking] if thinking.text or thinking.redacted else []
        case {"type": "compaction"} if (summary := _summary_in(item)) is not None:
            return "user", [Text(summary)]
        case {"role": "user" | "assistant" as role} if item.get("type", "message") == "message":
            refuse_inside(item, where, {*_OF_ANSWERS, "content"})
            return role, _content(item, where)
    raise InvalidRequest(f"An item of type {str(item.get('type'))[:40]!r} cannot be carried to {_WHO}.", param=where)


def _content(item: Json, where: str) -> list[Block]:
    content = item.get("content")
    if isinstance(content, str):
        return [Text(content)] if content else []
    if not isinstance(content, list):
        raise InvalidRequest("The content of a message is text or a list of parts.", param=f"{where}.content")
    return [_part(part, f"{where}.content[{index}]") for index, part in enumerate(content)]


def _part(part: object, where: str) -> Block:
    given: Json = part if isinstance(part, Mapping) else {}
    match given:
        case {"type": "input_text" | "output_text" | "text", "text": str(text)}:
            refuse_inside(given, where, {"type", "text", "prompt_cache_breakpoint"})
            return Text(text)
        case {"type": "refusal", "refusal": str(text)}:
            return Text(text)
        case {"type": "input_image", "image_url": str(url)}:
            refuse_inside(given, where, {"type", "image_url", "detail", "prompt_cache_breakpoint"})
            return _image(url, where)
    raise InvalidRequest(f"A part of type {str(given.get('type'))[:40]!r} cannot be carried to {_WHO}.", param=where)


def _image(url: str, where: str) -> Image:
    if url.startswith("https://"):
        return Image(url=url)
    match = _DATA_URL.fullmatch(url)
    if match is None:
        raise InvalidRequest(
            "An image is an https URL, or a data URL of base64 PNG, JPEG, GIF or WebP.", param=f"{where}.image_url"
        )
    return Image(match[1], match[2])


def _output(call_id: str, output: object, where: str) -> ToolResult:
    if isinstance(output, str):
        return ToolResult(call_id, output)
    if not isinstance(output, list):
        raise InvalidRequest("The output of a call is text or a list of parts.", param=where)
    blocks = [_part(part, f"{where}[{index}]") for index, part in enumerate(output)]
    texts = [block.text for block in blocks if isinstance(block, Text)]
    return ToolResult(call_id, "\n".join(texts), images=tuple(b for b in blocks if isinstance(b, Image)))


def _plain(blocks: list[Block], where: str) -> str:
    if not all(isinstance(block, Text) for block in blocks):
        raise InvalidRequest("Instructions hold text only.", param=f"{where}.content")
    return "".join(block.text for block in blocks if isinstance(block, Text))


def _reasoning(item: Json) -> Thinking:
    texts = [
        part["text"]
        for name in ("summary", "content")
        for part in item.get(name) or ()
        if isinstance(part, Mapping) and isinstance(part.get("text"), str)
    ]
    return unseal("\n\n".join(texts), item.get("encrypted_content"))


def _summary_in(item: Json) -> str | None:
    """The summary in a compaction that was made here; None for any other item, and for one of a vendor's own."""
    summary = unseal_summary(item.get("encrypted_content")) if item.get("type") == "compaction" else None
    return None if summary is None else _SUMMARY_HEAD + summary


def is_summary(item: Json) -> bool:
    """Whether ``item`` is a compaction that was made here, which no vendor can read."""
    return _summary_in(item) is not None


def opened(items: Sequence[Json]) -> list[dict[str, Any]]:
    """Items for the vendor of the dialect: what was compacted here is said in words, and all else as it is."""
    out: list[dict[str, Any]] = []
    for item in items:
        summary = _summary_in(item)
        part = {"type": "input_text", "text": summary}
        out.append(dict(item) if summary is None else {"type": "message", "role": "user", "content": [part]})
    return out


def listed(items: Sequence[Json], response_id: str) -> list[dict[str, Any]]:
    """The items that a response was asked with as a list of them shows them: each with an id, in its long form."""
    prefixes = {"message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fco"}
    prefixes["compaction"] = "cmp"
    out: list[dict[str, Any]] = []
    for number, item in enumerate(items):
        kind = str(item.get("type", "message"))
        item_id = f"{prefixes.get(kind, 'item')}_{response_id.removeprefix('resp_')}_{number}"
        shown: dict[str, Any] = {"type": kind, "id": item_id}
        shown |= {name: value for name, value in item.items() if value is not None}
        if kind == "message":
            said = "output_text" if item.get("role") == "assistant" else "input_text"
            content = item.get("content")
            whole = content if isinstance(content, list) else [{"type": said, "text": content}]
            shown |= {"content": whole, "status": item.get("status") or "completed"}
        out.append(shown)
    return out


def sent_again(items: Sequence[Json]) -> list[dict[str, Any]]:
    """Items of earlier responses for the vendor of the dialect, who has kept none of them.

    Reasoning goes with the vendor's own sealed content or not at all, and ids of items that nobody kept are left out.
    """
    out: list[dict[str, Any]] = []
    for item in opened(items):
        sealed = item.get("encrypted_content")
        if item.get("type") == "reasoning":
            if isinstance(sealed, str) and not is_sealed(sealed):
                out.append(dict(item))
            continue
        out.append({name: value for name, value in item.items() if name not in ("id", "status")})
    return out


def item_of(block: Block, item_id: str) -> dict[str, Any]:
    """A block of an answer as an output item, complete; ``item_id`` goes without the prefix of its kind."""
    match block:
        case Thinking(text):
            item: dict[str, Any] = {
                "id": f"rs_{item_id}", "type": "reasoning",
                "summary": [{"type": "summary_text", "text": text}] if text else [],
            }  # fmt: skip
            sealed = seal(block)
            return item if sealed is None else item | {"encrypted_content": sealed}
        case ToolCall(call_id, name, arguments):
            return {
                "id": f"fc_{item_id}", "type": "function_call", "call_id": call_id, "name": name,
                "arguments": arguments, "status": "completed",
            }  # fmt: skip
        case Text(text):
            part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
            return {
                "id": f"msg_{item_id}",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
    raise InvalidRequest("An answer holds words, reasoning and calls alone.")
