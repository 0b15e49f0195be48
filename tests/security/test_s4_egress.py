"""Security 4, and 3.3: the way out of a real sandbox, tried from the inside by hand and by real programs.

Each denial stands beside what stays permitted.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from carrel.egress.service import Gate
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from tests.fakes.egress import EgressHouse, egress_house, local
from tests.fakes.sandboxed import LAUNCH_UID, reachable, shell, workspace_tenant

SAY = """
import base64, os, socket, sys
from urllib.parse import urlsplit
proxy = urlsplit(os.environ["HTTPS_PROXY"])
auth = base64.b64encode(f"carrel:{proxy.password}".encode()).decode()
def say(*pieces):
    with socket.create_connection((proxy.hostname, proxy.port), timeout=30) as s:
        told = b""
        for piece in pieces:
            s.sendall(piece.replace(b"AUTH", b"Proxy-Authorization: Basic " + auth.encode()))
            told = s.recv(65536)
        while more := s.recv(65536):
            told += more
        return told
"""


@dataclass
class Rig:
    """A house of egress, and real sandboxes of its tenant."""

    house: EgressHouse
    sandbox: BwrapSandbox
    tenant: Tenant
    seen: list[str]

    async def run(self, command: str, gate: Gate | None = None, *, stdin: str = "") -> str:
        """What ``command`` prints in a sandbox behind ``gate``."""
        job = shell(command, stdin=stdin.encode())
        done = await self.sandbox.run(self.tenant, replace(job, gate=gate or self.house.gate()))
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    async def python(self, code: str, gate: Gate | None = None) -> Any:
        """What ``code`` leaves in ``found``."""
        text = await self.run("python3 -I -", gate, stdin=f"{SAY}\n{code}\nimport json; print(json.dumps(found))")
        try:
            return json.loads(text.splitlines()[-1])
        except (ValueError, IndexError):
            raise AssertionError(text) from None

    async def host(self, name: str, *, secure: bool = True) -> int:
        async def hello(request: web.BaseRequest) -> web.StreamResponse:
            self.seen.append(f"{request.method} {request.rel_url}")
            return web.Response(text=f"hello from {name}")

        return await self.house.host(name, hello, secure=secure)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        state = stack.enter_context(reachable())
        house = await stack.enter_async_context(egress_house(Path(state) / "egress"))
        sandbox = BwrapSandbox(launch_uid=LAUNCH_UID)
        stack.push_async_callback(sandbox.close)
        tenant = workspace_tenant(state)
        stack.callback(tenant.root.close)
        yield Rig(house, sandbox, tenant, [])


async def test_S3_03_its_own_gate_is_reached_and_nothing_else_is(rig: Rig) -> None:
    port = await rig.host("plain.test", secure=False)
    rig.house.declare({"allow": [local("plain.test", port, tls=False)]})
    assert "hello from plain.test" in await rig.run(f"curl -s http://plain.test:{port}/")
    for direct in (f"http://127.0.0.1:{port}", "http://169.254.169.254", "http://1.1.1.1", "http://[::1]:3129"):
        assert "code 7" in await rig.run(f"curl -s --noproxy '*' --max-time 20 {direct}; echo code $?")
    assert "code 6" in await rig.run("curl -s --noproxy '*' http://plain.test/; echo code $?"), (
        "no name is resolved inside"
    )


async def test_S4_06_no_other_sandboxes_gate_and_not_without_its_password(rig: Rig) -> None:
    port = await rig.host("plain.test", secure=False)
    rig.house.declare({"allow": [local("plain.test", port, tls=False)]})
    mine, other = rig.house.gate(), rig.house.gate("other")
    ask = f"curl -s -o /dev/null -w '%{{http_code}}' http://plain.test:{port}/"
    assert await rig.run(ask, mine) == "200"
    assert await rig.run(ask.replace("curl", f"curl -x {other.env['HTTP_PROXY']}"), mine) == "407"
    assert await rig.run(ask.replace("curl", "curl -x http://127.0.0.1:3128"), mine) == "407"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost",
             "LOCALHOST.", "inside.test", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "169.254.169.254"]
)  # fmt: skip
async def test_S4_01_S4_03_no_way_to_write_it_leads_inside(rig: Rig, host: str) -> None:
    port = await rig.host("inside.test", secure=False)
    open_to_all = {"host": "*", "any": True, "ports": [port], "tls": False}
    rig.house.declare({"allow": [open_to_all]})
    rig.house.names.known["localhost"] = [["127.0.0.1"]]
    where = f"{host}:{port}"
    connect = f"CONNECT {where} HTTP/1.1\r\nAUTH\r\n\r\n".encode()
    get = f"GET http://{where}/ HTTP/1.1\r\nHost: {where}\r\nAUTH\r\nConnection: close\r\n\r\n".encode()
    found = await rig.python(f"found = [say({connect!r}).decode(), say({get!r}).decode()]")
    assert all(" 403 " in answer.splitlines()[0] for answer in found), found
    assert rig.seen == []
    rig.house.declare({"allow": [{**open_to_all, "addresses": ["127.0.0.0/8"]}]})
    if host == "inside.test":
        assert "hello" in await rig.run(f"curl -s http://{host}:{port}/"), "where the operator names the address"


@pytest.mark.parametrize("host", ["a%00b.test", "a b.test", "a%2etest", "a\\x00.test", "x@inside.test", "inside.test#"])
async def test_S4_01_what_is_read_in_two_ways_is_refused(rig: Rig, host: str) -> None:
    port = await rig.host("inside.test", secure=False)
    rig.house.declare(
        {"allow": [{"host": "*", "any": True, "ports": [port], "tls": False, "addresses": ["0.0.0.0/0"]}]}
    )
    found = await rig.python(f'found = say(b"CONNECT {host}:{port} HTTP/1.1\\r\\nAUTH\\r\\n\\r\\n").decode()')
    assert " 400 " in found.splitlines()[0]
    assert rig.house.names.asked == []


async def test_S4_02_an_empty_list_denies_all_and_a_wildcard_means_strict_subdomains(rig: Rig) -> None:
    port = await rig.host("a.plain.test", secure=False)
    await rig.host("plain.test", secure=False)
    ask = "curl -s -o /dev/null -w '%{http_code}' http://{host}:{port}/"

    async def status(host: str) -> str:
        return await rig.run(ask.replace("{host}", host).replace("{port}", str(port)))

    rig.house.declare({"allow": []})
    assert await status("a.plain.test") == "403"
    rig.house.declare({"allow": [local("*.plain.test", port, tls=False)]})
    assert await status("a.plain.test") == "200"
    for host in ("plain.test", "xplain.test", "127.0.0.1.plain.test.evil.test"):
        assert await status(host) == "403"


async def test_S4_03_a_resolver_that_changes_its_mind_is_asked_once_for_each_connection(rig: Rig) -> None:
    port = await rig.host("good.test", secure=False)
    rig.house.names.known["good.test"] = [["127.0.0.1"], ["10.0.0.1"]]
    rig.house.declare({"allow": [local("good.test", port, tls=False)]})
    assert "hello" in await rig.run(f"curl -s http://good.test:{port}/")
    assert rig.house.names.asked == ["good.test"]


async def test_S4_04_the_rules_ports_tls_and_one_name_for_all(rig: Rig) -> None:
    port = await rig.host("good.test")
    other = await rig.host("other.test")
    rig.house.declare({"allow": [local("good.test", port)]})
    assert "hello" in await rig.run(f"curl -sk https://good.test:{port}/")
    assert "403" in await rig.run(f"curl -sSk https://good.test:{other}/")
    connect = f"CONNECT good.test:{port} HTTP/1.1\r\nAUTH\r\n\r\n".encode()
    found = await rig.python(f"found = say({connect!r}, b'GET / HTTP/1.1\\r\\n\\r\\n').decode()")
    assert "200" not in found
    wrong = f"curl -sSk --connect-to evil.test:443:good.test:{port} https://evil.test/; echo code $?"
    assert "code 35" in await rig.run(wrong), "another name in TLS than in CONNECT"
    rig.house.declare({"allow": [local("good.test", port, paths=["/"])]})
    ask = f"curl -s -o /dev/null -w '%{{http_code}}' https://good.test:{port}/"
    assert await rig.run(ask) == "200"
    assert await rig.run(f"{ask} -H 'Host: evil.test'") == "421"
    assert await rig.run(f"{ask} -X TRACE") == "400"


SMUGGLED = (
    b"POST {url} HTTP/1.1\r\nHost: {host}\r\nAUTH\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET {url} HTTP/1.1\nHost: {host}\nAUTH\n\n",
    b"GET {url} HTTP/1.1\r\nHost: {host}\r\nHost: evil.test\r\nAUTH\r\n\r\n",
    b"GET {url} HTTP/1.1\r\nHost: {host}\r\nAUTH\r\nX: a\r\n b\r\n\r\n",
    b"POST {url} HTTP/1.1\r\nHost: {host}\r\nAUTH\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"POST {url} HTTP/1.1\r\nHost: {host}\r\nAUTH\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
)


@pytest.mark.parametrize("request_", SMUGGLED)
async def test_S4_05_ambiguous_framing_never_passes(rig: Rig, request_: bytes) -> None:
    port = await rig.host("plain.test", secure=False)
    rig.house.declare({"allow": [local("plain.test", port, tls=False)]})
    url, host = f"http://plain.test:{port}/x".encode(), f"plain.test:{port}".encode()
    sent = request_.replace(b"{url}", url).replace(b"{host}", host)
    found = await rig.python(f"found = say({sent!r}).decode('latin-1')")
    assert found.split(" ")[1] in ("400", "407", "421"), found
    assert rig.seen == []
    plain = b"GET " + url + b" HTTP/1.1\r\nHost: " + host + b"\r\nAUTH\r\nConnection: close\r\n\r\n"
    assert "hello" in await rig.python(f"found = say({plain!r}).decode('latin-1')")
