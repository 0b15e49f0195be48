"""A cron job of OpenClaw's as one of ours, or why it cannot be one. Pure."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from carrel.imports.transcript import moment

SHORTEST_SECONDS: Final = 10
LONGEST_SECONDS: Final = 366 * 86_400
_OURS: Final = re.compile(r"job_[0-9a-f]{24}")
"""The id of a job that was exported from here: it comes in again as the same one."""


def convert(raw: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
    """The fields of our job, and what is not as it was; None where there is none. Old spellings are known."""
    notes: list[str] = []
    found, why = _schedule(raw.get("schedule"), notes)
    if found is None:
        return None, [why]
    payload = raw.get("payload") if isinstance(raw.get("payload"), Mapping) else {}
    assert isinstance(payload, Mapping)  # noqa: S101 - for the type checker alone
    message = payload.get("message") or payload.get("text") or raw.get("message")
    if not isinstance(message, str) or not message.strip():
        return None, ["it says nothing: there is no message in it"]
    source = str(raw.get("id") or raw.get("jobId") or raw.get("name") or message)
    if payload.get("kind") == "systemEvent":
        notes.append("its text is said as a message: there are no system events here")
    if raw.get("sessionTarget") == "main":
        notes.append("it runs in a session of its own each time, not in the main one")
    delivery = raw.get("delivery") if isinstance(raw.get("delivery"), Mapping) else {}
    channel = delivery.get("channel") or raw.get("channel") if isinstance(delivery, Mapping) else None
    if channel or (isinstance(delivery, Mapping) and delivery.get("mode") not in (None, "none")):
        notes.append(f"its answer is kept, not sent{f' to {str(channel)[:40]}' if channel else ''}")
    if payload.get("model") or raw.get("model"):
        notes.append("it runs on its agent's model")
    digest = hashlib.sha256(source.encode("utf-8", "replace")).hexdigest()
    job: dict[str, Any] = {
        "id": source if _OURS.fullmatch(source) else f"job_{digest[:24]}",
        "name": str(raw.get("name") or raw.get("description") or "imported")[:200],
        "schedule": found, "message": message[:100_000], "agent": _text(raw.get("agentId")),
        "enabled": raw.get("enabled") is not False, "catch_up": "skip",
        "delete_after_run": raw.get("deleteAfterRun") is True,
        "timeout_seconds": _timeout(payload.get("timeoutSeconds")),
    }  # fmt: skip
    made = moment(raw.get("createdAtMs")) or moment(0)
    changed = moment(raw.get("updatedAtMs")) or made
    assert made is not None  # noqa: S101 - for the type checker alone
    assert changed is not None  # noqa: S101 - as above
    return {**job, "created": made.isoformat(), "updated": changed.isoformat()}, notes


def _schedule(raw: Any, notes: list[str]) -> tuple[dict[str, Any] | None, str]:
    if isinstance(raw, str):
        raw = {"kind": "cron", "expr": raw}
    if not isinstance(raw, Mapping):
        return None, "it has no schedule"
    kind = raw.get("kind") or ("cron" if raw.get("cron") or raw.get("expr") else None)
    if kind == "at":
        when = moment(raw.get("at") if raw.get("at") is not None else raw.get("atMs"))
        return ({"kind": "at", "at": when.isoformat()}, "") if when else (None, "its time is none")
    if kind == "every":
        every = raw.get("everyMs")
        if not isinstance(every, int | float) or isinstance(every, bool) or every <= 0:
            return None, "its interval is none"
        seconds = max(SHORTEST_SECONDS, min(LONGEST_SECONDS, round(every / 1000)))
        if seconds * 1000 != every:
            notes.append(f"it runs every {seconds} s")
        anchor = moment(raw.get("anchorMs")) or moment(0)
        assert anchor is not None  # noqa: S101 - for the type checker alone
        return {"kind": "every", "seconds": seconds, "anchor": anchor.isoformat()}, ""
    if kind == "cron":
        expression = str(raw.get("expr") or raw.get("cron") or "").strip()
        fields = expression.split()
        if len(fields) == 6:
            fields = fields[1:]
            notes.append("its seconds are left out: jobs are due by the minute")
        if len(fields) != 5:
            return None, f"its expression {expression[:60]!r} has no five fields"
        return {"kind": "cron", "expr": " ".join(fields), "tz": _text(raw.get("tz")) or "UTC"}, ""
    return None, f"its schedule is of the kind {str(kind)[:40]!r}"


def _timeout(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 86_400 else 3600


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
