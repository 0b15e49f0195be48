import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from carrel.cli.client import Client, admin_key, path_of, understand
from carrel.cli.failures import GatewayUnreachable, NotUnderstood, Refused, WrongUsage
from carrel.cli.options import Target
from carrel.wire.control import ChatOrder, TenantList
from tests.fakes.edge import ADMIN_KEY, READER_KEY, Edge
from tests.fakes.patience import eventually

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(state: Path, handler: Handler) -> AsyncIterator[None]:
    """Something on the control socket that may be no gateway at all."""

    async def any_path(request: web.BaseRequest) -> web.StreamResponse:
        return await handler(request)  # type: ignore[arg-type] # nothing here looks at what a router adds

    (state / "run").mkdir()
    runner = web.ServerRunner(web.Server(any_path))
    await runner.setup()
    await web.UnixSite(runner, str(state / "run" / "control.sock")).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def test_over_the_control_socket_no_key_is_needed(edge: Edge, tmp_path: Path) -> None:
    async with Client(Target(state_dir=tmp_path)) as client:
        listed = understand(TenantList, await client.get(path_of("tenants")))
    assert [tenant.id for tenant in listed.tenants] == ["acme", "bravo"]


async def test_over_its_address_the_key_is_sent(edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARREL_ADMIN_KEY", f" {ADMIN_KEY}\n")
    async with Client(Target(url=edge.url)) as client:
        assert len((await client.get(path_of("tenants")))["tenants"]) == 2
    (tmp_path / "key").write_text(READER_KEY + "\n")
    async with Client(Target(url=edge.url + "/", admin_key_file=tmp_path / "key")) as client:
        assert len((await client.get(path_of("tenants")))["tenants"]) == 2
        with pytest.raises(Refused) as refused:
            await client.send("POST", path_of("reconcile"))
    assert (refused.value.status, refused.value.code) == (403, "forbidden")


async def test_a_wrong_key_is_refused_and_not_shown(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARREL_ADMIN_KEY", wrong := "ak_ops_" + "9" * 32)
    async with Client(Target(url=edge.url)) as client:
        with pytest.raises(Refused, match="CARREL_ADMIN_KEY") as refused:
            await client.get(path_of("tenants"))
    assert refused.value.status == 401
    assert wrong not in str(refused.value)


def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CARREL_ADMIN_KEY", raising=False)
    with pytest.raises(WrongUsage, match="needs an admin key"):
        admin_key(Target(url="http://x"))
    for content in (b"tk_acme_" + b"1" * 32, b"ak_two words", b"\xff\xfe", b"ak_a\nb"):
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(WrongUsage) as refused:
            admin_key(Target(url="http://x", admin_key_file=tmp_path / "key"))
        assert content.decode("ascii", "replace") not in refused.value.message
    with pytest.raises(WrongUsage, match="cannot be read"):
        admin_key(Target(url="http://x", admin_key_file=tmp_path / "none"))


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "x:80", "http://", "http://u:p@x", "http://x/path", "http://x?q=1", "http://x:99999", "http://x:y"],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(WrongUsage, match="--url takes"):
        Client(Target(url=url))


async def test_where_nothing_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Client(Target(state_dir=tmp_path)) as client:
        with pytest.raises(GatewayUnreachable, match="no such socket"):
            await client.get("/v1/status")
    (tmp_path / "run").mkdir()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "run" / "control.sock"))
    dead.close()
    async with Client(Target(state_dir=tmp_path)) as client:
        with pytest.raises(GatewayUnreachable, match="stopped or killed"):
            await client.get("/v1/status")
    monkeypatch.setenv("CARREL_ADMIN_KEY", ADMIN_KEY)
    free = socket.socket()
    free.bind(("127.0.0.1", 0))
    async with Client(Target(url=f"http://127.0.0.1:{free.getsockname()[1]}")) as client:
        with pytest.raises(GatewayUnreachable, match="Connection refused"):
            await client.get("/v1/status")
    free.close()


async def test_why_an_address_is_not_reached(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARREL_ADMIN_KEY", ADMIN_KEY)
    for url, why in (
        (edge.url.replace("http://", "https://"), r"it does not speak TLS: try http://"),
        ("http://nowhere.invalid", "no such host is known"),
    ):
        async with Client(Target(url=url)) as client:
            with pytest.raises(GatewayUnreachable, match=why):
                await client.get("/v1/status")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every socket")
async def test_a_socket_of_another_user_says_who_may(edge: Edge, tmp_path: Path) -> None:
    (tmp_path / "control.sock").chmod(0)
    async with Client(Target(state_dir=tmp_path)) as client:
        with pytest.raises(GatewayUnreachable, match="not yours"):
            await client.get("/v1/status")


async def test_what_answers_and_is_no_gateway(tmp_path: Path) -> None:
    async def page(request: web.Request) -> web.Response:
        status = 200 if request.path == "/ok" else 302 if request.path == "/moved" else 502
        return web.Response(text="<b>proxy\x1b[2J</b>", status=status, headers={"Location": "/elsewhere"})

    async with answering(tmp_path, page), Client(Target(state_dir=tmp_path)) as client:
        with pytest.raises(NotUnderstood, match="not JSON"):
            await client.get("/ok")
        with pytest.raises(NotUnderstood, match="status 502, <b>proxy</b>"):
            await client.get("/bad")
        with pytest.raises(NotUnderstood, match="status 302"):
            await client.get("/moved")


async def test_a_connection_that_is_cut_is_not_called_unreachable(tmp_path: Path) -> None:
    async def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with answering(tmp_path, cut), Client(Target(state_dir=tmp_path)) as client:
        with pytest.raises(Refused, match="may have been done"):
            await client.send("POST", "/v1/reconcile")


async def test_a_method_of_json_rpc_that_is_refused_at_the_door(edge: Edge, tmp_path: Path) -> None:
    async with Client(Target(state_dir=tmp_path)) as client:
        with pytest.raises(Refused) as refused:
            await client.send("POST", path_of("tenants", "nobody", "rpc"), b"{}")
    assert (refused.value.status, refused.value.code) == (404, "not_found")
    assert refused.value.request_id


async def test_leaving_a_stream_ends_what_it_asked_for(edge: Edge, tmp_path: Path) -> None:
    async with Client(Target(state_dir=tmp_path)) as client:
        events = client.events(path_of("tenants", "acme", "chat"), ChatOrder(message="wait: 3600"))
        assert (await anext(events)).event == "session"
        await events.aclose()
    await eventually(lambda: edge.agents.cancelled)
    assert edge.agents.cancelled == 1


def test_parts_of_a_path_stay_parts() -> None:
    assert path_of("tenants", "../status") == "/v1/tenants/..%2Fstatus"
    assert path_of("tenants", "a b", "chat") == "/v1/tenants/a%20b/chat"


def test_an_answer_of_another_version() -> None:
    with pytest.raises(NotUnderstood, match=r"tenants\.0\.id"):
        understand(TenantList, {"tenants": [{"state": "active"}]})
