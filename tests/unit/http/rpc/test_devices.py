"""`device.*`, `node.*` and `voicewake.*`."""

from typing import Any

import pytest

from tests.fakes.edge import Edge, token_of
from tests.fakes.socket import Socket, opened
from tests.unit.http.rpc.conftest import Rpc


async def paired(rpc: Rpc, name: str = "laptop") -> tuple[str, str]:
    """A node's id and token."""
    asked = await rpc("node.pair.request", {"name": name, "platform": "Linux"})
    assert (await rpc("node.pair.list"))["pending"][0]["requestId"] == asked["requestId"]
    secret = {"requestId": asked["requestId"], "secret": asked["secret"]}
    assert (await rpc("node.pair.verify", secret))["status"] == "waiting"
    assert (await rpc("node.pair.verify", secret, tenant="bravo"))["data"]["code"] == "not_found"
    await rpc("node.pair.approve", {"requestId": asked["requestId"]})
    claimed = await rpc("node.pair.verify", secret)
    return claimed["deviceId"], claimed["token"]


async def connected(node: Socket, *commands: str) -> Any:
    return await node.call("node.connect", {"platform": "Linux", "version": "1", "commands": commands})


async def test_a_node_is_asked_and_answers(edge: Edge, rpc: Rpc) -> None:
    node_id, token = await paired(rpc)
    async with opened(edge.url, token) as node, opened(edge.url, token_of("acme"), "?events=node") as owner:
        assert (await connected(node, "notify"))["nodeId"] == node_id
        assert (await owner.next("node.connected"))["payload"] == {"nodeId": node_id, "commands": ["notify"]}
        asked = await owner.send("node.invoke", {"nodeId": node_id, "command": "notify", "params": {"body": "x"}})
        ask = await node.next("node.invoke")
        assert (ask["command"], ask["params"]) == ("notify", {"body": "x"})
        assert await node.call("node.result", {"id": ask["id"], "result": {"shown": True}}) == {"ok": True}
        assert (await owner.answer(asked))["result"] == {"shown": True}
        assert (await rpc("node.describe", {"nodeId": node_id}))["commands"] == ["notify"]
        assert [one["connected"] for one in (await rpc("node.list"))["nodes"]] == [True]
        await rpc("voicewake.set", {"triggers": ["hey"]})
        assert (await node.next("voicewake.changed"))["triggers"] == ["hey"]
        failing = await owner.send("node.invoke", {"nodeId": node_id, "command": "notify"})
        ask = await node.next("node.invoke")
        error = {"code": "not_allowed", "message": "no"}
        await node.call("node.result", {"id": ask["id"], "error": error})
        assert (await owner.answer(failing))["data"]["code"] == "node_failed"
        late = await rpc("node.invoke", {"nodeId": node_id, "command": "notify", "timeoutMs": 1})
        assert late["data"]["code"] == "node_timeout"
        await node.socket.close()
        await owner.next("node.disconnected")
    assert (await rpc("node.invoke", {"nodeId": node_id, "command": "notify"}))["data"]["code"] == "unavailable"


async def test_whether_a_token_is_a_nodes(rpc: Rpc) -> None:
    node_id, token = await paired(rpc)
    other_id, other = await paired(rpc, "other")
    found = await rpc("node.pair.verify", {"nodeId": node_id, "token": token})
    assert (found["ok"], found["status"], found["node"]["nodeId"]) == (True, "approved", node_id)
    assert (found["node"]["displayName"], found["node"]["paired"], "token" in found) == ("laptop", True, False)
    assert (await rpc("node.pair.verify", {"nodeId": node_id, "token": token}))["ok"] is True, "it stays good"
    no = {"ok": False, "status": "unknown"}
    for wrong in (
        {"nodeId": node_id, "token": other}, {"nodeId": other_id, "token": token}, {"nodeId": "no", "token": token},
        {"nodeId": node_id, "token": token_of("acme")}, {"nodeId": node_id, "token": f"tk_acme_{'0' * 32}"},
    ):  # fmt: skip
        assert await rpc("node.pair.verify", wrong) == no
    assert await rpc("node.pair.verify", {"nodeId": node_id, "token": token}, tenant="bravo") == no
    await rpc("device.token.revoke", {"deviceId": node_id})
    assert await rpc("node.pair.verify", {"nodeId": node_id, "token": token}) == no
    for half in ({}, {"nodeId": node_id}, {"nodeId": node_id, "token": token, "requestId": "p", "secret": "s"}):
        assert (await rpc("node.pair.verify", half))["data"]["code"] == "invalid_request"


async def test_a_nodes_token_is_for_nothing_else(edge: Edge, rpc: Rpc) -> None:
    _, token = await paired(rpc)
    async with opened(edge.url, token) as node:
        await node.next("hello")
        for method in ("health", "sessions.list", "node.list", "tenants.rotate"):
            assert (await node.call(method))["data"]["code"] == "forbidden"
        await rpc("sessions.create", {"sessionId": "s"})
        await connected(node)
        assert not [one for one in node.told if one["method"] == "event"]
    assert (await rpc("node.connect"))["data"]["code"] == "forbidden"


async def test_a_revoked_node_is_cut_off(edge: Edge, rpc: Rpc) -> None:
    node_id, token = await paired(rpc)
    async with opened(edge.url, token) as node:
        await connected(node)
        await rpc("device.token.revoke", {"deviceId": node_id})
        assert await node.closed() == (1008, "revoked")


async def test_nodes_are_renamed_and_refused(rpc: Rpc) -> None:
    node_id, _ = await paired(rpc)
    assert (await rpc("node.rename", {"nodeId": node_id, "name": "desk"}))["name"] == "desk"
    assert (await rpc("node.rename", {"nodeId": node_id, "name": "x"}, tenant="bravo"))["data"]["code"] == "not_found"
    asked = await rpc("node.pair.request", {"name": "other"})
    assert (await rpc("node.pair.reject", {"requestId": asked["requestId"]}))["requestId"] == asked["requestId"]
    secret = {"requestId": asked["requestId"], "secret": asked["secret"]}
    assert (await rpc("node.pair.verify", secret))["status"] == "rejected"


async def test_devices_are_listed_rejected_and_rotated(rpc: Rpc) -> None:
    node_id, token = await paired(rpc)
    listed = await rpc("device.pair.list")
    assert [one["deviceId"] for one in listed["paired"]] == [node_id]
    assert (await rpc("device.token.rotate", {"deviceId": node_id}))["token"] != token
    asked = await rpc("node.pair.request", {"name": "other"})
    await rpc("device.pair.reject", {"requestId": asked["requestId"]})
    assert (await rpc("device.pair.list"))["pending"] == []
    assert (await rpc("device.pair.approve", {"requestId": "pair_x"}))["data"]["code"] == "not_found"


@pytest.mark.parametrize("triggers", [["x" * 70], ["a\nb\0"], ["w" + str(n) for n in range(40)]])
async def test_words_that_are_none_are_refused(rpc: Rpc, triggers: list[str]) -> None:
    assert (await rpc("voicewake.set", {"triggers": triggers}))["data"]["path"] == "triggers"
    assert (await rpc("voicewake.get"))["triggers"] == ["carrel", "computer"]
