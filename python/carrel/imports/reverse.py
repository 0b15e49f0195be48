"""What a tenant of ours is in OpenClaw's files: the importer's other direction. Pure.

Written as its version 3 of transcripts and version 1 of jobs, which its later versions take up by themselves.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

_WORD: Final = "carrel"


def transcript(session_id: str, created: datetime, entries: Sequence[Mapping[str, Any]]) -> bytes:
    """A session's file: ``entries`` are lines of ours as JSON values, without the header."""
    header = {"type": "session", "version": 3, "id": session_id, "timestamp": _stamp(created), "cwd": "/workspace"}
    out = [header]
    parent: str | None = None
    usage: dict[int, Mapping[str, Any]] = {}
    last_said = -1
    names: dict[int, str] = {}
    for at, entry in enumerate(entries):
        if entry.get("type") == "message" and entry.get("role") == "assistant":
            last_said = at
        elif entry.get("type") == "model_call" and last_said >= 0:
            usage[last_said] = entry
    for at, entry in enumerate(entries):
        body = _entry(entry, usage.get(at), names)
        if body is None:
            continue
        key = hashlib.sha256(f"{session_id}/{at}".encode()).hexdigest()[:8]
        names[int(entry.get("id", 0))] = key
        out.append({**body, "id": key, "parentId": parent, "timestamp": _stamp(_moment(entry))})
        parent = key
    return b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in out)


def index_entry(session_id: str, label: str | None, updated: datetime) -> dict[str, Any]:
    """What the index says of a session."""
    found: dict[str, Any] = {"sessionId": session_id, "updatedAt": int(updated.timestamp() * 1000)}
    return {**found, "sessionFile": f"{session_id}.jsonl", **({"displayName": label} if label else {})}


def job(ours: Mapping[str, Any]) -> dict[str, Any]:
    """A job of ours as one of its jobs."""
    schedule = ours["schedule"]
    match schedule["kind"]:
        case "at":
            when: dict[str, Any] = {"kind": "at", "at": schedule["at"]}
        case "every":
            anchor = datetime.fromisoformat(schedule["anchor"])
            when = {
                "kind": "every", "everyMs": schedule["seconds"] * 1000, "anchorMs": int(anchor.timestamp() * 1000)
            }  # fmt: skip
        case _:
            when = {"kind": "cron", "expr": schedule["expr"], "tz": schedule["tz"]}
    return {
        "id": ours["id"], "name": ours["name"], "enabled": ours["enabled"], "schedule": when,
        "sessionTarget": "isolated", "wakeMode": "now", "deleteAfterRun": ours["delete_after_run"],
        "payload": {"kind": "agentTurn", "message": ours["message"], "timeoutSeconds": ours["timeout_seconds"]},
        "delivery": {"mode": "none"}, "state": {}, "createdAtMs": _millis(ours["created"]),
        "updatedAtMs": _millis(ours["updated"]), **({"agentId": ours["agent"]} if ours.get("agent") else {}),
    }  # fmt: skip


def settings(agents: Mapping[str, Mapping[str, Any]], channels: Mapping[str, Any]) -> bytes:
    """`openclaw.json`; ``channels`` as they were once imported, each secret by its name."""
    listed = []
    for name in sorted(agents):
        agent = agents[name]
        model = {"model": {"primary": agent["model"]}} if agent.get("model") else {}
        skills = {"skills": list(agent["skills"])} if agent.get("skills") else {}
        place = "workspace" if name == "main" else f"workspace-{name}"
        listed.append({"id": name, "workspace": f"~/.openclaw/{place}", **model, **skills})
    kept = {key: value for key, value in channels.items() if key != "access"}
    return (json.dumps({"agents": {"list": listed}, "channels": _named(kept)}, indent=2) + "\n").encode()


def _named(value: Any) -> Any:
    """References to secrets as references to the environment: no value ever leaves."""
    if isinstance(value, Mapping):
        if set(value) == {"secret"}:
            return "${" + str(value["secret"]) + "}"
        return {key: _named(one) for key, one in value.items()}
    return [_named(one) for one in value] if isinstance(value, list) else value


def _entry(
    entry: Mapping[str, Any], call: Mapping[str, Any] | None, names: Mapping[int, str]
) -> dict[str, Any] | None:  # fmt: skip
    at = _millis(entry.get("ts"))
    match entry.get("type"):
        case "message":
            message: dict[str, Any] = {
                "role": entry["role"],
                "content": list(_blocks(entry["content"])),
                "timestamp": at,
            }
            if entry["role"] == "assistant":
                message |= {"provider": entry.get("provider") or _WORD, "model": entry.get("model") or _WORD}
                message |= {"usage": _usage(call), "stopReason": _stop(entry)}
            return {"type": "message", "message": message}
        case "tool_result":
            content = [{"type": "text", "text": entry["content"]}]
            return {"type": "message", "message": {
                "role": "toolResult", "toolCallId": entry["call_id"], "toolName": entry["name"], "content": content,
                "isError": entry.get("is_error", False), "timestamp": at,
            }}  # fmt: skip
        case "compaction":
            kept = names.get(int(entry["keep_from"]))
            return {
                "type": "compaction", "summary": entry["summary"], "tokensBefore": entry["tokens_before"],
                **({"firstKeptEntryId": kept} if kept else {}),
            }  # fmt: skip
    return None


def _blocks(content: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    for block in content:
        match block["type"]:
            case "text":
                yield {"type": "text", "text": block["text"]}
            case "image" if block.get("data"):
                yield {"type": "image", "data": block["data"], "mimeType": block["media_type"]}
            case "thinking":
                signature = {"thinkingSignature": block["signature"]} if block.get("signature") else {}
                yield {"type": "thinking", "thinking": block["text"], **signature}
            case "tool_call":
                yield {
                    "type": "toolCall", "id": block["call_id"], "name": block["name"],
                    "arguments": _object(block["arguments"]),
                }  # fmt: skip
            case "tool_result":
                yield {"type": "text", "text": block["content"]}


def _usage(call: Mapping[str, Any] | None) -> dict[str, Any]:
    used = call.get("usage", {}) if call is not None else {}
    found = {"input": used.get("input", 0), "output": used.get("output", 0) + used.get("reasoning", 0)}
    found |= {"cacheRead": used.get("cache_read", 0), "cacheWrite": used.get("cache_write", 0)}
    return {**found, "totalTokens": sum(found.values())}


def _stop(entry: Mapping[str, Any]) -> str:
    if entry.get("interrupted"):
        return "aborted"
    return "toolUse" if any(block["type"] == "tool_call" for block in entry["content"]) else "stop"


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"raw": text}


def _moment(entry: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(str(entry["ts"]))


def _millis(text: Any) -> int:
    return int(datetime.fromisoformat(str(text)).timestamp() * 1000)


def _stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"
