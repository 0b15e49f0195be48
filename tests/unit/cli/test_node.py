"""`carrel node` against a running edge."""

import asyncio
from pathlib import Path

import pytest

from carrel.cli.failures import GatewayUnreachable, Refused, WrongUsage
from carrel.cli.node import NodeClient, node
from carrel.cli.node_commands import COMMANDS, Doer, Owner
from carrel.tasks import Tasks
from tests.fakes.edge import running_edge, token_of
from tests.fakes.socket import opened


async def test_a_node_is_paired_asked_and_cut_off(tmp_path: Path) -> None:
    tasks, kept = Tasks("test"), tmp_path / "conf" / "token"
    async with running_edge(tmp_path) as edge, opened(edge.url, token_of("acme")) as owner:
        code = (await owner.call("device.pair.code", {"role": "node"}))["code"]
        client = NodeClient(edge.url, kept, Doer(Owner(frozenset(COMMANDS), asks=False), tmp_path))
        running = tasks.start(client.run(code=code, name="desk", once=True), name="node")
        request = (await owner.next("device.pair.requested"))["payload"]["requestId"]
        await owner.call("node.pair.approve", {"requestId": request})
        node_id = (await owner.next("node.connected"))["payload"]["nodeId"]
        call = {"nodeId": node_id, "command": "run", "params": {"argv": ["echo", "hi"]}}
        assert (await owner.call("node.invoke", call))["result"]["output"] == "hi\n"
        bad = {"nodeId": node_id, "command": "file.read", "params": {"path": "../x"}}
        assert (await owner.call("node.invoke", bad))["data"]["nodeCode"] == "unsafe_path"
        assert kept.stat().st_mode & 0o777 == 0o600
        await owner.call("voicewake.set", {"triggers": ["hey"]})
        await owner.call("device.token.revoke", {"deviceId": node_id})
        assert await running == 1
        with pytest.raises(Refused):
            await NodeClient(edge.url, kept, Doer(Owner(), tmp_path)).run(code=None, name="x", once=True)
        with pytest.raises(Refused):
            await client.run(code="AAAAAAAA", name="x", once=True)
        code = (await owner.call("device.pair.code", {"role": "node"}))["code"]
        refused = tasks.start(_refused(client, code), name="node")
        request = (await owner.next("device.pair.requested"))["payload"]["requestId"]
        await owner.call("node.pair.reject", {"requestId": request})
        assert (await refused).code == "rejected"
    await tasks.close()


async def _refused(client: NodeClient, code: str) -> Refused:
    with pytest.raises(Refused) as refused:
        await client.run(code=code, name="x", once=True)
    return refused.value


async def test_a_gateway_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("tk_acme_x\n")
    client = NodeClient("http://127.0.0.1:9", tmp_path / "token", Doer(Owner(), tmp_path))
    assert await asyncio.wait_for(client.run(code=None, name="x", once=True), 60) == 0


async def test_a_gateway_that_ends_while_a_node_is_paired_is_told(tmp_path: Path) -> None:
    async def hangs_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hangs_up, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(GatewayUnreachable, match="does not answer"):
            await NodeClient(url, tmp_path / "token", Doer(Owner(), tmp_path)).run(code="AAAAAAAA", name="x", once=True)


def test_wrong_words_are_told(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage):
        node(url="http://127.0.0.1:9", allow=("dance",))
    with pytest.raises(WrongUsage):
        node(url="http://127.0.0.1:9", token_file=tmp_path / "none", once=True)
