"""State directories as OpenClaw has them, of both its generations and of its multi-tenant fork, small and made up."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

MAIN = "3f0c1d52-6f0e-4f4e-9d56-0d7a6c1f2a10"
GROUP = "8a7b6c5d-1111-4222-8333-944455566677"
OLD = "11111111-aaaa-4bbb-8ccc-222222222222"
API_KEY = "sk-ant-api03-not-a-real-key-000000000000"
BOT_TOKEN = "123456789:AAE-not-a-real-token-aaaaaaaaaaaaaaa"

CONFIG = (
    """// Written by `openclaw onboard`, and by hand.
{
  agents: {
    defaults: { model: { primary: "anthropic/claude-opus-4-5", fallbacks: [] }, workspace: "~/.openclaw/workspace" },
    list: [
      { id: "main", default: true, identity: { name: "Molty", emoji: "🦞" } },
      { id: "Work_Bot", workspace: "~/.openclaw/workspace-work", model: "demo/demo", skills: ["rhyme"],
        heartbeat: {every: "30m"} },
    ],
  },
  channels: {
    telegram: { enabled: true, botToken: '%s', dmPolicy: "pairing",
                accounts: { second: { botToken: "${TELEGRAM_SECOND}" } } },
    slack: { appToken: { source: "exec", provider: "op", id: "op://vault/slack" }, },
  },
  env: { vars: { BRAVE_API_KEY: "BSA-not-a-real-key" } },
  gateway: { auth: { token: "gw-not-a-real-token" }, port: 18789 },
  messages: { responsePrefix: "\\u{1F99E}" === 1 },
}
""".replace(' "\\u{1F99E}" === 1', ' "[m] "')
    % BOT_TOKEN
)


def line(**members: Any) -> str:
    return json.dumps(members) + "\n"


def transcript() -> str:
    """Version 3: a tool call, a branch that was left behind, a compaction, and a name."""
    usage = {"input": 12, "output": 5, "cacheRead": 100, "cacheWrite": 7, "totalTokens": 124, "cost": {"total": 0.01}}
    call = {"type": "toolCall", "id": "toolu_1", "name": "exec", "arguments": {"command": "ls"}}
    said: Sequence[Mapping[str, Any]] = [
        {"role": "user", "content": "What is in my workspace?", "timestamp": 1767225600000},
        {"role": "assistant", "provider": "anthropic", "model": "claude-opus-4-5", "stopReason": "toolUse",
         "usage": usage, "content": [{"type": "thinking", "thinking": "I look.", "thinkingSignature": "c2ln"}, call]},
        {"role": "toolResult", "toolCallId": "toolu_1", "toolName": "exec", "isError": False,
         "content": [{"type": "text", "text": "AGENTS.md\nnotes.txt"}]},
        {"role": "assistant", "provider": "anthropic", "model": "claude-opus-4-5", "stopReason": "stop",
         "usage": usage, "content": [{"type": "text", "text": "Two files: AGENTS.md and notes.txt."}]},
        {"role": "user", "content": [{"type": "text", "text": "Look at this"},
                                     {"type": "image", "data": "aGVsbG8=", "mimeType": "image/png"}]},
        {"role": "assistant", "provider": "anthropic", "model": "claude-opus-4-5", "stopReason": "stop",
         "content": [{"type": "text", "text": "A picture of a lobster."}]},
    ]  # fmt: skip
    out = line(
        type="session", version=3, id=MAIN, timestamp="2026-01-01T00:00:00.000Z", cwd="/home/u/.openclaw/workspace"
    )
    out += line(type="model_change", id="m0", parentId=None, timestamp="2026-01-01T00:00:00.100Z",
                provider="anthropic", modelId="claude-opus-4-5")  # fmt: skip
    out += line(
        type="thinking_level_change", id="t0", parentId="m0", timestamp="2026-01-01T00:00:00.200Z", thinkingLevel="low"
    )
    parent = "t0"
    for number, message in enumerate(said):
        at = f"2026-01-01T00:0{number}:00.000Z"
        if number == 4:
            out += line(type="message", id="left", parentId=parent, timestamp=at,
                        message={"role": "user", "content": "A branch that was left behind."})  # fmt: skip
            out += line(type="compaction", id="c0", parentId=parent, timestamp=at, summary="They looked at files.",
                        firstKeptEntryId="e3", tokensBefore=4321)  # fmt: skip
            parent = "c0"
        out += line(type="message", id=f"e{number}", parentId=parent, timestamp=at, message=message)
        parent = f"e{number}"
    out += line(
        type="custom", id="x0", parentId=parent, timestamp="2026-01-01T00:09:00.000Z", customType="cache-ttl", data={}
    )
    return out


def oldest() -> str:
    """Version 1: no ids, in order."""
    return line(type="session", id=OLD, timestamp="2025-11-01T10:00:00Z", cwd="/x") + "".join(
        line(type="message", timestamp=f"2025-11-01T10:0{n}:00Z", message={"role": role, "content": text})
        for n, (role, text) in enumerate([("user", "hi"), ("assistant", [{"type": "text", "text": "hello there"}])])
    )


JOBS: list[dict[str, Any]] = [
    {"id": "j1", "agentId": "main", "name": "Morning", "enabled": True,
     "schedule": {"kind": "cron", "expr": "0 7 * * *", "tz": "Europe/Vienna"},
     "sessionTarget": "isolated", "wakeMode": "now", "createdAtMs": 1767225600000,
     "payload": {"kind": "agentTurn", "message": "Good morning"},
     "delivery": {"mode": "announce", "channel": "telegram", "to": "42"}, "state": {}},
    {"jobId": "j2", "name": "Water", "schedule": {"kind": "every", "everyMs": 3600000, "anchorMs": 1767225600000},
     "sessionTarget": "main", "payload": {"kind": "systemEvent", "text": "Drink water"}, "enabled": False},
    {"id": "j3", "name": "Old spelling", "schedule": {"cron": "*/5 * * * *"}, "message": "tick"},
    {"id": "j1", "name": "Twice", "schedule": "0 0 * * *", "message": "again"},
    {"id": "j5", "name": "Broken", "schedule": {"kind": "lunar"}, "message": "never"},
]  # fmt: skip
SKILL = (
    '---\nname: rhyme\ndescription: Makes rhymes.\nmetadata: {"openclaw": {"emoji": "🎵"}}\n---\nRhyme in {baseDir}.\n'
)
PROFILES = {"version": 1, "profiles": {
    "anthropic:default": {"type": "api_key", "provider": "anthropic", "key": API_KEY},
    "openai-codex:me": {"type": "oauth", "provider": "openai-codex", "access": "a", "refresh": "r", "expires": 1},
}}  # fmt: skip


def put(top: Path, files: Mapping[str, str | bytes]) -> None:
    for path, content in files.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(content.encode() if isinstance(content, str) else content)


def single(top: Path) -> Path:
    """A user's `~/.openclaw`, of files."""
    group = f"agent:Work_Bot:telegram:group:-100{42}"
    put(top, {
        "openclaw.json": CONFIG,
        f"agents/main/sessions/{MAIN}.jsonl": transcript(),
        f"agents/main/sessions/{OLD}.jsonl": oldest(),
        "agents/main/sessions/gone.jsonl.deleted.2026-01-02": "{}\n",
        "agents/main/sessions/sessions.json": json.dumps({
            "agent:main:main": {"sessionId": MAIN, "updatedAt": 1767226000000, "chatType": "direct", "totalTokens": 9},
            "agent:main:lost": {"sessionId": "not-there", "updatedAt": 1},
        }),
        f"agents/Work_Bot/sessions/{GROUP}.jsonl": oldest().replace(OLD, GROUP),
        "agents/Work_Bot/sessions/sessions.json": json.dumps({
            group: {"sessionId": GROUP, "sessionFile": f"/home/u/.openclaw/agents/Work_Bot/sessions/{GROUP}.jsonl",
                    "displayName": "The team", "chatType": "group", "channel": "telegram"},
        }),
        "agents/main/agent/auth-profiles.json": json.dumps(PROFILES),
        "cron/jobs.json": json.dumps({"version": 1, "jobs": JOBS}),
        "cron/runs/j1.jsonl": line(ts=1, jobId="j1", action="finished", status="ok"),
        "credentials/whatsapp/default/creds.json": json.dumps({"noiseKey": {"private": "not-a-real-key"}}),
        "credentials/telegram-pairing.json": json.dumps({"version": 1, "requests": []}),
        "credentials/telegram-allowFrom.json": json.dumps({"version": 1, "allowFrom": ["42"]}),
        "devices/paired.json": json.dumps({"dev1": {"deviceId": "dev1", "publicKey": "x"}}),
        "settings/voicewake.json": json.dumps({"triggers": ["molty"], "updatedAtMs": 1}),
        "memory/main.sqlite": b"SQLite format 3\0 derived",
        "logs/gateway.log": "started\n",
        "workspace/AGENTS.md": "# Rules\nBe kind.\n", "workspace/SOUL.md": "You are Molty.\n",
        "workspace/HEARTBEAT.md": "- look at mail\n", "workspace/notes.txt": "buy lobsters\n",
        "workspace/memory/2026-01-01.md": "The user likes marmalade.\n",
        "workspace/.git/HEAD": "ref: refs/heads/main\n",
        "workspace/skills/rhyme/SKILL.md": SKILL, "workspace/skills/rhyme/words.txt": "cat hat\n",
        "workspace-work/AGENTS.md": "Work hard.\n", "workspace-work/plan.md": "1. work\n",
    })  # fmt: skip
    (top / "workspace/link").symlink_to("notes.txt")
    return top


def databases(top: Path) -> Path:
    """The same user later: sessions, jobs and profiles in SQLite, the newest rows in its log."""
    put(top, {"openclaw.json": "{agents: {entries: {main: {}}}}", "workspace/USER.md": "Ann\n"})
    (top / "agents/main/agent").mkdir(parents=True)
    (top / "state").mkdir()
    own = apsw.Connection(str(top / "agents/main/agent/openclaw-agent.sqlite"))
    own.pragma("journal_mode", "wal")
    own.pragma("wal_autocheckpoint", 0)
    own.execute(
        "CREATE TABLE session_nodes (session_key TEXT PRIMARY KEY, current_session_id TEXT, entry_json TEXT, "
        "updated_at INTEGER)"
    )
    own.execute("CREATE TABLE transcript_events (session_id TEXT, seq INTEGER, event_json TEXT, created_at INTEGER)")
    own.execute("CREATE TABLE auth_profile_store (store_key TEXT PRIMARY KEY, store_json TEXT)")
    own.execute(
        "INSERT INTO session_nodes VALUES ('agent:main:main', ?, ?, 1)", (MAIN, json.dumps({"displayName": "Me"}))
    )
    for number, text in enumerate(transcript().splitlines()):
        own.execute("INSERT INTO transcript_events VALUES (?, ?, ?, 0)", (MAIN, number, text))
    own.execute("INSERT INTO auth_profile_store VALUES ('default', ?)", (json.dumps(PROFILES),))
    state = apsw.Connection(str(top / "state/openclaw.sqlite"))
    state.execute("CREATE TABLE cron_jobs (job_id TEXT PRIMARY KEY, job_json TEXT, state_json TEXT)")
    state.execute("INSERT INTO cron_jobs VALUES ('j1', ?, '{}')", (json.dumps(JOBS[0]),))
    state.close()
    # As a program that runs leaves it: what is newest is in the log alone.
    copied = {name: (top / "agents/main/agent" / name).read_bytes()
              for name in ("openclaw-agent.sqlite", "openclaw-agent.sqlite-wal")}  # fmt: skip
    own.close()
    for path in (top / "agents/main/agent").iterdir():
        path.unlink()
    put(top / "agents/main/agent", copied)
    return top


def many(top: Path) -> Path:
    """The multi-tenant fork's directory, with two tenants."""
    put(top, {"tenants.json": json.dumps({"version": 1, "tenants": {
        "alpha": {"tokenHash": "0" * 64, "createdAt": "2026-01-01T00:00:00Z", "displayName": "Alpha Inc"},
        "beta": {"tokenHash": "1" * 64, "createdAt": "2026-01-01T00:00:00Z"},
    }})})  # fmt: skip
    for name in ("alpha", "beta"):
        put(top / "tenants" / name, {
            "openclaw.json": "{}", f"agents/main/sessions/{name}-1.jsonl": oldest(),
            "workspace/who.txt": name, "usage/current.json": "{}", "backups.json": "[]",
        })  # fmt: skip
    return top
