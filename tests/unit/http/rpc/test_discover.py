"""`rpc.discover`."""

from typing import Any

from carrel.http.rpc.discover import document
from carrel.http.rpc.methods import REGISTRY
from tests.unit.http.rpc.conftest import Rpc

PROMISED = {
    "tenants.status", "tenants.quota.request", "tenants.quota.requests",
    "terminal.spawn", "terminal.attach", "terminal.detach", "terminal.ack", "terminal.write", "terminal.resize",
    "terminal.close", "terminal.list", "terminal.read", "terminal.recordings", "terminal.recording",
    "sessions.cancel", "sessions.search", "sessions.compact",
    "config.set", "config.patch",
    "skills.status", "skills.bins", "skills.install", "skills.update", "skills.remove",
    "device.pair.code", "device.pair.list", "device.pair.approve", "device.pair.reject",
    "device.token.rotate", "device.token.revoke",
    "node.pair.request", "node.pair.list", "node.pair.approve", "node.pair.reject", "node.pair.verify",
    "node.rename", "node.list", "node.describe", "node.invoke", "node.connect", "node.result",
    "voicewake.get", "voicewake.set",
    "connections.list", "connections.link", "connections.remove",
    "memory.search", "memory.list", "memory.add", "memory.forget",
    "channels.status", "channels.start", "channels.stop", "channels.logout", "channels.pair",
    "cron.list", "cron.add", "cron.update", "cron.remove", "cron.status", "cron.runs", "cron.run",
    "agents.list", "agents.create", "agents.update", "agents.delete",
    "agents.files.list", "agents.files.get", "agents.files.set",
    "health", "tenants.get", "tenants.rotate", "tenants.usage", "tenants.quota.status", "sessions.create",
    "sessions.list", "sessions.preview", "sessions.send", "sessions.reset", "sessions.delete", "config.get",
    "config.schema", "packages.list", "packages.search", "packages.add", "packages.remove",
    "tenants.backup", "tenants.backups.list", "tenants.restore", "grants.list", "grants.decide", "rpc.discover",
    "tenants.usage.history", "tenants.delete",
}  # fmt: skip


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [v for k, v in value.items() if k == "$ref"] + [r for v in value.values() for r in references(v)]
    return [r for v in value for r in references(v)] if isinstance(value, list | tuple) else []


async def test_the_document_lists_every_method(rpc: Rpc) -> None:
    body = await rpc("rpc.discover")
    assert body["openrpc"].startswith("1.")
    assert {m["name"] for m in body["methods"]} == {m.name for m in REGISTRY} == PROMISED
    send = next(m for m in body["methods"] if m["name"] == "sessions.send")
    assert [p["name"] for p in send["params"] if p["required"]] == ["message"]
    for reference in references(body):
        assert reference.removeprefix("#/components/schemas/") in body["components"]["schemas"]


def test_every_method_says_what_it_does() -> None:
    for entry in document(REGISTRY, version="1").methods:
        assert entry["summary"].endswith("."), entry["name"]
