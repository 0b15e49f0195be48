"""`/rpc` and `/ws` of a whole gateway that is killed and comes back."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

from tests.fakes.gateway_process import CARREL
from tests.fakes.socket import opened
from tests.system.conftest import StartGateway


def lines(transcript: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in transcript.read_text().splitlines()]


async def test_a_call_with_a_key_is_done_once_over_a_crash(new_gateway: StartGateway) -> None:
    gateway = await asyncio.to_thread(lambda: new_gateway(args=("--trial",)).start())
    token = gateway.token
    call = {"message": "run: echo once >> log; sleep 1000", "idempotencyKey": "k"}
    async with opened(gateway.url, token) as socket:
        await socket.send("sessions.send", call)
        await socket.next("session.tool.started")
        session = str((await socket.next("session.started"))["payload"]["sessionId"])
        await asyncio.to_thread(gateway.kill)
    await asyncio.to_thread(gateway.start)
    async with opened(gateway.url, token) as socket:
        answer = await socket.call("sessions.send", call)
        assert answer["sessionId"] == session
        assert await socket.call("sessions.send", call) == answer
    said = lines(gateway.state_dir / "tenants" / "demo" / "sessions" / f"{session}.jsonl")
    assert len([one for one in said if one.get("role") == "user"]) == 1


async def test_a_tenant_configures_itself_and_its_agents(new_gateway: StartGateway) -> None:
    gateway = await asyncio.to_thread(lambda: new_gateway(args=("--trial",)).start())
    async with opened(gateway.url, gateway.token) as socket:
        seen = await socket.call("config.get")
        changed = await socket.call("config.patch", {"patch": {"display_name": "Own"}, "baseHash": seen["hash"]})
        assert changed["config"]["display_name"] == "Own"
        assert (await socket.next("config.changed"))["payload"] == {"hash": changed["hash"]}
        stale = await socket.call("config.patch", {"patch": {}, "baseHash": seen["hash"]})
        assert stale["data"]["code"] == "config_changed"
        refused = await socket.call("config.patch", {"patch": {"quotas": {}}})
        assert refused["data"]["code"] == "admin_only_key"
        wrong = await socket.call("config.patch", {"patch": {"packages": ["no-such-package"]}})
        assert wrong["data"]["code"] == "invalid_request"
        assert (await socket.call("config.get"))["overlay"] == {"display_name": "Own"}
        made = await socket.call("agents.create", {"name": "poet", "systemPrompt": "Rhyme.", "tools": []})
        assert made["agentId"] == "poet"
        await socket.call("agents.files.set", {"agentId": "poet", "name": "SOUL.md", "content": "Be kind."})
        sent = await socket.call("sessions.send", {"message": "a sonnet about marmalade", "agent": "poet"})
        hits = (await socket.call("sessions.search", {"query": "marmal"}))["hits"]
        assert {hit["sessionId"] for hit in hits} == {sent["sessionId"]}
        assert (await socket.call("agents.delete", {"agentId": "poet"}))["ok"] is True
        assert [one["name"] for one in (await socket.call("agents.list"))["agents"]] == ["main"]
    assert gateway.cli("audit", "verify").returncode == 0


async def test_a_job_runs_by_itself_and_not_twice_over_a_crash(new_gateway: StartGateway) -> None:
    gateway = await asyncio.to_thread(lambda: new_gateway(args=("--trial",)).start())
    token = gateway.token
    every = {"kind": "every", "everySeconds": 31_622_400, "anchor": "2026-01-01T00:00:00Z"}
    async with opened(gateway.url, token, "?events=cron,session.tool.started") as socket:
        job = await socket.call("cron.add", {"name": "hold", "message": "run: sleep 1000", "schedule": every})
        soon = datetime.fromtimestamp(job["createdAt"] / 1000 + 2, UTC).isoformat()
        at = {"kind": "at", "at": soon}
        once = await socket.call("cron.add", {"name": "once", "message": "hello", "schedule": at})
        done = (await socket.next("cron.finished"))["payload"]
        assert (done["jobId"], done["status"]) == (once["jobId"], "ok")
        run = await socket.call("cron.run", {"jobId": job["jobId"]})
        assert run["status"] == "running"
        await socket.next("session.tool.started")
        await asyncio.to_thread(gateway.kill)
    await asyncio.to_thread(gateway.start)
    async with opened(gateway.url, token) as socket:
        runs = (await socket.call("cron.runs", {}))["runs"]
        while any(one["status"] == "running" for one in runs):
            await asyncio.sleep(0.05)
            runs = (await socket.call("cron.runs", {}))["runs"]
    assert sorted(one["status"] for one in runs) == ["interrupted", "ok"]


async def test_a_machine_is_a_node_under_its_owners_leave(new_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await asyncio.to_thread(lambda: new_gateway(args=("--trial",)).start())
    async with opened(gateway.url, gateway.token, "?events=device,node") as owner:
        code = (await owner.call("device.pair.code", {"role": "node"}))["code"]
        words = (
            "node",
            "--url",
            gateway.url,
            "--code",
            code,
            "--root",
            str(tmp_path),
            "--once",
            "--allow",
            "file.write",
        )
        node = await asyncio.create_subprocess_exec(
            str(CARREL), *words, "--allow", "file.write", "--token-file", str(tmp_path / "token"),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            request = (await owner.next("device.pair.requested"))["payload"]["requestId"]
            await owner.call("node.pair.approve", {"requestId": request})
            node_id = (await owner.next("node.connected"))["payload"]["nodeId"]
            params = {"path": "note.txt", "content": "hello"}
            call = {"nodeId": node_id, "command": "file.write", "params": params}
            assert (await owner.call("node.invoke", call))["result"]["size"] == 5
            assert (tmp_path / "note.txt").read_text() == "hello"
            run = {"nodeId": node_id, "command": "run", "params": {"argv": ["id"]}}
            assert (await owner.call("node.invoke", run))["data"]["nodeCode"] == "not_allowed"
            await owner.call("device.token.revoke", {"deviceId": node_id})
            await owner.next("node.disconnected")
            async with asyncio.timeout(60):
                assert await node.wait() == 1
        finally:
            if node.returncode is None:
                node.kill()
                await node.wait()
