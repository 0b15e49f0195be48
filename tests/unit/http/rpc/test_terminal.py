"""`terminal.*` over `/rpc` and `/ws`."""

import base64
from typing import Any

from tests.fakes.edge import Edge, token_of
from tests.fakes.patience import eventually
from tests.fakes.socket import Socket, opened
from tests.unit.http.rpc.conftest import Rpc


async def shown(socket: Socket, text: str, terminal: str, *, ack: bool = True) -> str:
    """What the connection is shown of ``terminal`` until ``text`` is in it."""
    seen = ""
    while text not in seen:
        told = await socket.next("terminal.output")
        assert told["terminalId"] == terminal
        seen += told["data"]
        if ack:
            await socket.send("terminal.ack", {"terminalId": terminal, "at": told["next"]})
    return seen


async def test_a_shell_is_typed_into_resized_and_left(edge: Edge) -> None:
    async with opened(edge.url, token_of("acme"), "?events=none") as socket:
        made = await socket.call("terminal.spawn", {"cols": 90, "rows": 20, "env": {"GREETING": "grüß"}})
        terminal = made["terminalId"]
        assert (made["cols"], made["rows"], made["recorded"]) == (90, 20, False)
        assert made["pid"] > 0
        await socket.call("terminal.write", {"terminalId": terminal, "data": "stty size; echo $GREETING dich\n"})
        assert "20 90" in await shown(socket, "grüß dich", terminal)
        await socket.call("terminal.resize", {"terminalId": terminal, "cols": 100, "rows": 30})
        await socket.call("terminal.write", {"terminalId": terminal, "data": "stty size\n"})
        await shown(socket, "30 100", terminal)
        (one,) = (await socket.call("terminal.list"))["sessions"]
        assert (one["terminalId"], one["tenantId"], one["cols"], one["viewers"]) == (terminal, "acme", 100, 1)
        assert one["createdAt"] <= one["lastActivityAt"]
        await socket.call("terminal.write", {"terminalId": terminal, "data": "exit 3\n"})
        gone = await socket.next("terminal.exit")
        assert (gone["terminalId"], gone["exitCode"], gone["reason"]) == (terminal, 3, "exit")
        assert (await socket.call("terminal.list"))["sessions"] == []


async def test_a_shell_goes_on_while_nobody_looks_and_is_shown_anew(edge: Edge) -> None:
    async with opened(edge.url, token_of("acme")) as socket:
        terminal = (await socket.call("terminal.spawn"))["terminalId"]
        await socket.call("terminal.write", {"terminalId": terminal, "data": "echo be''fore\n"})
        await shown(socket, "before", terminal)
        assert (await socket.next("terminal.started"))["payload"] == {"terminalId": terminal}
    async with opened(edge.url, token_of("acme")) as socket:
        back = await socket.call("terminal.attach", {"terminalId": terminal, "cols": 70, "rows": 10})
        assert (back["at"], back["cols"]) == (0, 70)
        await shown(socket, "before", terminal)
        await socket.call("terminal.detach", {"terminalId": terminal})
        assert (await socket.call("terminal.list"))["sessions"][0]["viewers"] == 0
        socket.told.clear()
        await socket.call("terminal.attach", {"terminalId": terminal, "encoding": "base64", "after": 0})
        seen = b""
        while b"before" not in seen:
            seen += base64.b64decode((await socket.next("terminal.output"))["data"])
        assert (await socket.call("terminal.close", {"terminalId": terminal}))["ok"] is True
        assert (await socket.next("terminal.exit"))["reason"] == "closed"


async def test_it_is_read_by_polling_where_there_is_no_connection(rpc: Rpc) -> None:
    terminal = (await rpc("terminal.spawn", {"record": True}))["terminalId"]
    typed = base64.b64encode(b"echo po''lled; exit 9\n").decode()
    assert (await rpc("terminal.write", {"terminalId": terminal, "data": typed, "encoding": "base64"}))["ok"] is True
    at, text = 0, ""
    got: dict[str, Any] = {"running": True}
    while got["running"]:
        got = await rpc("terminal.read", {"terminalId": terminal, "after": at, "waitSeconds": 20})
        at, text = got["next"], text + got["data"]
    assert "polled" in text
    assert (got["reason"], got["exitCode"]) == ("exit", 9)
    assert (await rpc("terminal.attach", {"terminalId": terminal}))["data"]["code"] == "invalid_request"

    async def told() -> Any:
        return (await rpc("terminal.recordings"))["recordings"]

    (kept,) = await told()
    assert kept["terminalId"] == terminal
    piece = await rpc("terminal.recording", {"terminalId": terminal, "limit": 20})
    assert (piece["data"][:13], len(piece["data"])) == ('{"version": 2', 20)


async def test_what_is_wrong_is_refused(rpc: Rpc) -> None:
    for params, path in (
        ({"cols": 100_000}, "cols"), ({"env": {"PATH": "/x"}}, "env"), ({"env": {"A B": "x"}}, "env.A B"),
        ({"rows": 0}, "rows"), ({"shell": "a\0b"}, "shell"),
    ):  # fmt: skip
        assert (await rpc("terminal.spawn", params))["data"]["path"].startswith(path), params
    for method, more in (
        ("write", {"data": "x"}), ("resize", {"cols": 80, "rows": 24}), ("close", {}), ("read", {}), ("recording", {}),
    ):  # fmt: skip
        refused = await rpc(f"terminal.{method}", {"terminalId": f"term_{0:024x}", **more})
        assert refused["data"]["code"] == "not_found"
    terminal = (await rpc("terminal.spawn"))["terminalId"]
    bad = await rpc("terminal.write", {"terminalId": terminal, "data": "?", "encoding": "base64"})
    assert bad["data"]["path"] == "data"
    assert (await rpc("terminal.close", {"terminalId": terminal}, tenant="bravo"))["data"]["code"] == "not_found"


async def test_keystrokes_are_no_requests_that_quotas_count(edge: Edge) -> None:
    async with opened(edge.url, token_of("acme")) as socket:
        terminal = (await socket.call("terminal.spawn"))["terminalId"]
        before = edge.meter.admitted
        for _ in range(20):
            await socket.call("terminal.write", {"terminalId": terminal, "data": "x"})
        assert edge.meter.admitted == before
        await socket.call("terminal.list")
        assert edge.meter.admitted == before
        await socket.call("health")
        assert edge.meter.admitted == before + 1


async def test_keystrokes_are_taken_in_their_order(edge: Edge) -> None:
    async with opened(edge.url, token_of("acme")) as socket:
        terminal = (await socket.call("terminal.spawn", {"shell": "cat"}))["terminalId"]
        for number in range(200):
            await socket.send("terminal.write", {"terminalId": terminal, "data": f"{number} "})
        await socket.send("terminal.write", {"terminalId": terminal, "data": "\n"})
        wanted = " ".join(map(str, range(200)))
        await shown(socket, f"{wanted} \r\n{wanted}", terminal)


async def test_it_is_let_go_of_with_its_connection(edge: Edge, rpc: Rpc) -> None:
    async with opened(edge.url, token_of("acme")) as socket:
        await socket.call("terminal.spawn")

    async def unseen() -> bool:
        return bool((await rpc("terminal.list"))["sessions"][0]["viewers"] == 0)

    while not await unseen():
        await eventually(lambda: True)
