"""`/rpc` and `/ws` of a whole gateway that is killed and comes back."""

import asyncio
import json
from pathlib import Path

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
