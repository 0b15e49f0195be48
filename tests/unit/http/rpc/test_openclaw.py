"""The words of OpenClaw's clients, beside our own: taken where they have a meaning here, refused by name where not."""

import json
from typing import Any

import pytest

from carrel.errors import InvalidRequest
from carrel.http.rpc.openclaw import answered, asked
from carrel.ids import TenantId
from tests.fakes.edge import Edge, token_of
from tests.fakes.socket import opened
from tests.unit.http.rpc.conftest import Rpc
from tests.unit.http.rpc.test_devices import connected, paired

TURN = {"kind": "agentTurn", "message": "hello", "timeoutSeconds": 60}
THEIR_JOB = {
    "name": "digest", "description": "Every hour.", "schedule": {"kind": "every", "everyMs": 3_600_000},
    "sessionTarget": "isolated", "wakeMode": "now", "payload": TURN, "delivery": {"mode": "none"},
}  # fmt: skip


async def test_a_job_in_their_words_from_its_beginning_to_its_end(rpc: Rpc) -> None:
    made = await rpc("cron.add", THEIR_JOB)
    assert made["id"] == made["jobId"]
    assert (made["description"], made["payload"], made["sessionTarget"]) == ("Every hour.", TURN, "isolated")
    assert made["schedule"]["everyMs"] == 3_600_000
    assert made["state"]["nextRunAtMs"] == made["schedule"]["anchorMs"] + 3_600_000
    (listed,) = (await rpc("cron.list"))["jobs"]
    assert listed == made
    early = await rpc("cron.run", {"id": made["id"], "mode": "due"})
    assert (early["ok"], early["ran"], early["reason"]) == (True, False, "not-due")
    ran = await rpc("cron.run", {"id": made["id"], "mode": "force", "wait": True})
    assert (ran["ok"], ran["ran"]) == (True, True)
    (entry,) = (await rpc("cron.runs", {"id": made["id"]}))["entries"]
    assert (entry["status"], entry["summary"], entry["action"]) == ("ok", "You said: hello", "finished")
    patch = {"name": "other", "payload": {"kind": "systemEvent", "text": "more"}, "enabled": False}
    changed = await rpc("cron.update", {"id": made["id"], "patch": patch})
    assert (changed["name"], changed["message"], changed["enabled"], changed["state"]) == ("other", "more", False, {})
    assert (await rpc("cron.status"))["jobs"] == 1
    assert (await rpc("cron.remove", {"id": made["id"]}))["ok"] is True


async def test_a_job_of_the_main_session_says_each_message_there(rpc: Rpc) -> None:
    made = await rpc("cron.add", {**THEIR_JOB, "sessionTarget": "main"})
    assert (made["sessionTarget"], made["sessionId"]) == ("main", "main")
    run = await rpc("cron.run", {"id": made["id"], "wait": True})
    assert run["sessionId"] == "main"


@pytest.mark.parametrize(
    ("method", "params", "param"),
    [
        ("cron.add", {**THEIR_JOB, "delivery": {"mode": "announce"}}, "delivery"),
        ("cron.add", {**THEIR_JOB, "payload": {**TURN, "model": "large"}}, "payload.model"),
        ("cron.add", {**THEIR_JOB, "payload": "hello"}, "payload.kind"),
        ("cron.add", {**THEIR_JOB, "sessionTarget": "other"}, "sessionTarget"),
        ("cron.add", {**THEIR_JOB, "wakeMode": "later"}, "wakeMode"),
        ("cron.add", {**THEIR_JOB, "schedule": {"kind": "every", "everyMs": 10_500}}, "schedule.everyMs"),
        ("cron.add", {**THEIR_JOB, "schedule": {"kind": "at", "atMs": 10**30}}, "schedule"),
        ("cron.update", {"id": "x", "patch": []}, "patch"),
        ("config.set", {"raw": "{"}, "raw"),
        ("config.set", {"raw": "[]"}, "raw"),
        ("config.patch", {"raw": 4}, "raw"),
        ("agents.create", {"name": "Own One", "workspace": "/home/me"}, "workspace"),
        ("agents.create", {"name": "one", "emoji": "x"}, "emoji"),
        ("agents.update", {"agentId": "main", "model": {"primary": "m", "fallbacks": ["n"]}}, "model.fallbacks"),
        ("agents.delete", {"agentId": "one", "deleteFiles": "no"}, "deleteFiles"),
        ("skills.update", {"skillKey": "weather", "apiKey": "k"}, "apiKey"),
        ("device.token.rotate", {"deviceId": "d", "role": "owner"}, "role"),
        ("device.token.rotate", {"deviceId": "d", "role": "node", "scopes": ["chat"]}, "scopes"),
    ],
)
async def test_what_has_no_meaning_here_is_refused_by_name(method: str, params: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(method, params)
    assert refused.value.param == param


async def test_configuration_as_json5_text(rpc: Rpc) -> None:
    seen = await rpc("config.get")
    assert (seen["exists"], seen["isTenantOverlay"], json.loads(seen["raw"])) == (False, True, {})
    done = await rpc("config.set", {"raw": "{ display_name: 'Own', /* mine */ }", "baseHash": seen["hash"]})
    assert (done["ok"], done["parsed"]) == (True, {"display_name": "Own"})
    done = await rpc("config.patch", {"raw": '{"agents": {"main": {"thinking": "low"}}}', "note": "slower"})
    assert done["overlay"] == {"display_name": "Own", "agents": {"main": {"thinking": "low"}}}
    refused = await rpc("config.set", {"raw": "{ plan: 'pro' }"})
    assert refused["data"]["code"] == "admin_only_key"


async def test_agents_and_their_files(rpc: Rpc) -> None:
    made = await rpc("agents.create", {"name": "Second One", "workspace": "/workspace", "model": {"primary": "demo"}})
    assert (made["ok"], made["agentId"], made["workspace"]) == (True, "second-one", "/workspace")
    listed = await rpc("agents.list")
    assert [one["id"] for one in listed["agents"]] == ["main", "second-one"]
    assert (listed["mainKey"], listed["scope"]) == ("main", "per-sender")
    wrote = await rpc("agents.files.set", {"agentId": "second-one", "name": "SOUL.md", "content": "Be kind."})
    assert (wrote["ok"], wrote["file"]["path"]) == (True, "SOUL.md")
    files = (await rpc("agents.files.list", {"agentId": "second-one"}))["files"]
    assert [one["name"] for one in files if "updatedAtMs" in one] == ["SOUL.md"]
    gone = await rpc("agents.delete", {"agentId": "second-one", "deleteFiles": True})
    assert gone == {"ok": True, "agentId": "second-one", "removedBindings": 0}


async def test_devices_and_nodes(edge: Edge, rpc: Rpc) -> None:
    asks = await rpc("node.pair.request", {"nodeId": "n1", "displayName": "Phone", "caps": ["camera"], "version": "1"})
    assert (asks["status"], asks["created"], asks["request"]["requestId"]) == ("pending", True, asks["requestId"])
    (waiting,) = (await rpc("node.pair.list"))["pending"]
    assert (waiting["displayName"], waiting["ts"]) == ("Phone", waiting["askedAt"])
    assert (await rpc("node.pair.reject", {"requestId": asks["requestId"]}))["requestId"] == asks["requestId"]

    node_id, token = await paired(rpc)
    async with opened(edge.url, token) as node, opened(edge.url, token_of("acme"), "?events=none") as owner:
        await connected(node, "notify")
        call = {"nodeId": node_id, "command": "notify", "params": {}, "idempotencyKey": "k"}
        sent = await owner.send("node.invoke", call)
        ask = await node.next("node.invoke")
        await node.call("node.result", {"id": ask["id"], "result": [1]})
        invoked = await owner.answer(sent)
        assert (invoked["ok"], invoked["payload"], invoked["payloadJSON"]) == (True, [1], "[1]")
        (listed,) = (await rpc("node.list"))["nodes"]
        assert (listed["displayName"], listed["caps"], listed["paired"]) == ("laptop", [], True)
        assert listed["connectedAtMs"] == listed["connectedAt"]
        assert (await rpc("node.rename", {"nodeId": node_id, "displayName": "desk"}))["displayName"] == "desk"
    rotated = await rpc("device.token.rotate", {"deviceId": node_id, "role": "node"})
    assert (rotated["role"], rotated["scopes"]) == ("node", ["node"])
    assert rotated["rotatedAtMs"] == rotated["rotatedAt"]
    gone = await rpc("device.token.revoke", {"deviceId": node_id, "role": "node"})
    assert gone["tokens"][0]["revokedAtMs"] == gone["revokedAt"]
    (seen,) = (await rpc("device.pair.list"))["paired"]
    assert (seen["displayName"], seen["roles"], seen["approvedAtMs"]) == ("desk", ["node"], seen["pairedAt"])


async def test_skills(rpc: Rpc) -> None:
    text = "---\nname: weather\ndescription: Tells the weather.\n---\nAsk it.\n"
    made = await rpc("skills.install", {"content": text})
    assert (made["ok"], made["code"], made["skillKey"]) == (True, 0, "weather")
    assert (await rpc("skills.update", {"skillKey": "weather", "enabled": False}))["disabled"] is True
    status = await rpc("skills.status")
    assert (status["workspaceDir"], status["skills"][0]["eligible"]) == ("/workspace", False)


def test_what_is_not_known_of_them_stays_as_it_is() -> None:
    assert asked("health", {"probe": True}) == {"probe": True}
    assert answered("health", TenantId("acme"), {"ok": True}) == {"ok": True}
