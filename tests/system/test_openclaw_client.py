"""OpenClaw's own client, unmodified, against a whole gateway: it connects with a key, calls, and hears events."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.fakes import programs
from tests.fakes.gateway_process import GatewayProcess

SCRIPT = Path(__file__).with_name("openclaw_client.mjs")
JOB = {
    "name": "digest", "schedule": {"kind": "every", "everyMs": 3_600_000}, "sessionTarget": "isolated",
    "wakeMode": "now", "payload": {"kind": "agentTurn", "message": "hello"},
}  # fmt: skip
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("tenants.get", {}), ("health", {"probe": True}), ("agents.list", {}), ("config.get", {}),
    ("agents.files.set", {"agentId": "main", "name": "SOUL.md", "content": "Be kind."}), ("cron.add", JOB),
    ("cron.list", {"includeDisabled": True}), ("cron.status", {}), ("skills.status", {}), ("skills.bins", {}),
    ("voicewake.set", {"triggers": ["hey"]}), ("device.pair.list", {}), ("node.list", {}), ("tenants.usage", {}),
    ("sessions.send", {"message": "hello"}), ("sessions.list", {"limit": 5, "includeLastMessage": True}),
    ("tenants.quota.status", {}), ("tenants.usage.history", {"months": 2}), ("no.such", {}),
]  # fmt: skip


def run(gateway: GatewayProcess, token: str, home: Path) -> tuple[int, list[dict[str, Any]]]:
    """The client's exit code, and what it told."""
    node, program = programs.node() / "bin" / "node", programs.npm_program("openclaw")
    client = program / "package" / "dist" / "gateway" / "client.js"
    done = subprocess.run(
        [str(node), str(SCRIPT), str(client), gateway.url.replace("http", "ws", 1), token, json.dumps(CALLS)],
        capture_output=True, text=True, timeout=120, check=False,
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr
    return done.returncode, [json.loads(line) for line in lines]


def test_their_client_finds_what_it_needs(gateway: GatewayProcess, tmp_path: Path) -> None:
    code, told = run(gateway, gateway.token, tmp_path)
    assert code == 0, told
    assert told[0]["hello"] == 3
    results: dict[str, Any] = {one["method"]: one.get("result") for one in told if "method" in one}
    assert {one["method"] for one in told if "error" in one} == {"no.such"}, told
    assert set(results) == {method for method, _ in CALLS}
    assert (results["tenants.get"]["tenantId"], results["agents.list"]["agents"][0]["id"]) == ("demo", "main")
    assert results["cron.list"]["jobs"][0]["id"] == results["cron.add"]["id"]
    assert results["cron.status"]["nextWakeAtMs"] == results["cron.add"]["state"]["nextRunAtMs"]
    assert results["sessions.list"]["sessions"][0]["sessionId"] == results["sessions.send"]["sessionId"]
    assert {"voicewake.changed", "cron", "session.finished"} <= {one["event"] for one in told if "event" in one}
    assert (tmp_path / ".openclaw" / "identity" / "device.json").exists(), "it signed with a key of its own"


def test_a_wrong_token_is_told_to_it(gateway: GatewayProcess, tmp_path: Path) -> None:
    code, told = run(gateway, "tk_demo_" + "0" * 32, tmp_path)
    assert (code, [one.get("refused") for one in told]) == (
        1,
        ["`auth.token` is not known here: send a tenant's token, or a node's."],
    )
