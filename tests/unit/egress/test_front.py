"""What may be said first at a gate, and what becomes of it."""

import asyncio
import base64
import json
import ssl
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from carrel.egress.front import asked_of, authorised
from tests.fakes.egress import EgressHouse, curl, local
from tests.fakes.patience import PATIENCE
from tests.unit.egress import test_hello


async def hello(request: web.Request) -> web.StreamResponse:
    return web.Response(text=f"{request.method} {request.rel_url}")


async def said(proxy: str, data: bytes, *, more: bytes = b"") -> bytes:
    """Everything that the gate answers to ``data``, and then to ``more``."""
    parts = urlsplit(proxy)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(data)
    async with asyncio.timeout(PATIENCE):
        if more:
            first = await reader.readuntil(b"\r\n\r\n")
            writer.write(more)
        else:
            first = b""
        answer = first + await reader.read(-1)
    writer.close()
    return answer


def password(proxy: str) -> str:
    return "Basic " + base64.b64encode(f"carrel:{urlsplit(proxy).password}".encode()).decode()


def connect(proxy: str, where: str, **fields: str) -> bytes:
    given = {"Host": where, "Proxy-Authorization": password(proxy), **fields}
    lines = [f"CONNECT {where} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    return "\r\n".join(lines).encode()


async def begun(proxy: str, where: str, data: bytes) -> bytes:
    """The first record that comes back where ``data`` is said in a tunnel, as far as its kind."""
    parts = urlsplit(proxy)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(connect(proxy, where))
    async with asyncio.timeout(PATIENCE):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.write(data)
        answer = await reader.read(1)
    writer.close()
    return answer


async def test_S4_04_a_sealed_name_passes_only_where_requests_are_judged(house: EgressHouse) -> None:
    """Encrypted ClientHello: behind one front another host could be meant than the one that is named in clear."""
    port = await house.host("api.example.test", hello)
    where = f"api.example.test:{port}"
    sealed, plain = test_hello.sealed_hello("api.example.test"), test_hello.client_hello("api.example.test")
    alert, handshake = b"\x15", b"\x16"
    house.declare({"allow": [local("api.example.test", port)]})
    proxy = await house.serve(house.gate())
    assert await begun(proxy, where, sealed) == alert
    assert b'carrel_egress_total{outcome="sealed_name",tenant="acme"} 1.0' in house.metrics.render()
    assert await begun(proxy, where, plain) == handshake
    house.declare({"allow": [local("api.example.test", port, paths=["/"])]})
    assert await begun(proxy, where, sealed) == handshake


async def test_a_tunnel_is_read_by_nobody(house: EgressHouse) -> None:
    port = await house.host("api.example.test", hello)
    house.declare({"allow": [local("api.example.test", port)]})
    proxy = await house.serve(house.gate())
    for socks in (False, True):
        done = await curl(proxy, f"https://api.example.test:{port}/x?y", ca=house.public.certificate, socks=socks)
        assert (done.status, done.body) == (200, "GET /x?y")
    assert b'carrel_egress_total{outcome="tunnel",tenant="acme"} 2.0' in house.metrics.render()


async def test_what_no_rule_allows_is_403_and_says_how_to_ask(house: EgressHouse) -> None:
    proxy = await house.serve(house.gate())
    answer = await said(proxy, connect(proxy, "api.example.test:443"))
    assert answer.startswith(b"HTTP/1.1 403")
    told = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert "request_access" in told["how_to_ask"]
    (line,) = house.audit.lines
    assert (line["action"], line["target"], line["tenant"]) == ("egress.refused", "api.example.test:443", "acme")
    done = await curl(proxy, "https://api.example.test/", socks=True)
    assert done.code == 97


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"CONNECT a.com:443 HTTP/1.1\r\nHost: a.com\r\n\r\n", 407),
        (b"CONNECT a.com:443 HTTP/1.1\r\nProxy-Authorization: Basic Y2FycmVsOng=\r\n\r\n", 407),
        (b"CONNECT a.com:443 HTTP/1.1\nHost: a.com\r\n\r\n", 400),
        (b"CONNECT a.com:443 HTTP/1.1\r\nHost : a.com\r\n\r\n", 400),
        (b"CONNECT a.com:443 HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
        (b"CONNECT a.com:443 HTTP/1.1\r\nHost: a.com\r\nHost: b.com\r\n\r\n", 400),
        (b"CONNECT a.com:443 HTTP/2.0\r\n\r\n", 400),
        (b"CONNECT  a.com:443 HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT " + b"a" * 20_000, 431),
    ],
)
async def test_S4_06_without_its_password_or_form_nothing_is_opened(
    house: EgressHouse, head: bytes, status: int
) -> None:
    house.declare({"allow": [{"host": "*", "any": True}]})
    proxy = await house.serve(house.gate())
    assert (await said(proxy, head)).startswith(f"HTTP/1.1 {status} ".encode())
    assert house.names.asked == []


@pytest.mark.parametrize(
    "where",
    ["a.com", "a.com:0", "a.com:65536", "a.com:x", ":443", "a b.com:443", "a%2ecom:443", "u@a.com:443", "::1:443"],
)
async def test_S4_01_a_target_that_is_no_host_is_refused(house: EgressHouse, where: str) -> None:
    house.declare({"allow": [{"host": "*", "any": True}]})
    proxy = await house.serve(house.gate())
    assert (await said(proxy, connect(proxy, where))).startswith(b"HTTP/1.1 400 ")


async def test_S4_06_one_gates_password_opens_no_other(house: EgressHouse) -> None:
    port = await house.host("api.example.test", hello)
    house.declare({"allow": [local("api.example.test", port)]})
    one, two = await house.serve(house.gate()), await house.serve(house.gate())
    answer = await said(two, connect(one, f"api.example.test:{port}"))
    assert answer.startswith(b"HTTP/1.1 407")


async def test_S4_04_what_is_said_must_be_tls_for_that_very_host(house: EgressHouse) -> None:
    port = await house.host("api.example.test", hello)
    house.declare({"allow": [local("api.example.test", port)]})
    proxy = await house.serve(house.gate())
    opened = connect(proxy, f"api.example.test:{port}")
    assert (await said(proxy, opened, more=b"GET / HTTP/1.1\r\n\r\n")).endswith(b"established\r\n\r\n")
    answer = await said(proxy, opened, more=client_hello("evil.example.test"))
    assert answer.endswith(b"\x15\x03\x01\x00\x02\x02\x70"), "an alert: unrecognized name"
    assert (await said(proxy, opened, more=client_hello(None))).endswith(b"\x02\x70")


def client_hello(name: str | None) -> bytes:
    out, context = ssl.MemoryBIO(), ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


async def test_a_hello_in_the_same_packet_as_the_request_is_not_lost(house: EgressHouse) -> None:
    port = await house.host("api.example.test", hello)
    house.declare({"allow": [local("api.example.test", port, paths=["/"])]})
    proxy = await house.serve(house.gate())
    parts = urlsplit(proxy)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(connect(proxy, f"api.example.test:{port}") + client_hello("api.example.test"))
    async with asyncio.timeout(PATIENCE):
        await reader.readuntil(b"established\r\n\r\n")
        assert (await reader.readexactly(3))[:2] == b"\x16\x03", "the gateway's own hello"
    writer.close()


async def test_S4_03_an_address_inside_is_refused_whatever_name_leads_there(house: EgressHouse) -> None:
    house.declare({"allow": [{"host": "*", "any": True, "ports": [443, 18789]}]})
    house.names.known["evil.test"] = [["127.0.0.1"]]
    proxy = await house.serve(house.gate())
    for where in ("evil.test:18789", "127.0.0.1:18789", "0x7f.1:18789", "[::1]:18789", "[::ffff:127.0.0.1]:18789"):
        answer = await said(proxy, connect(proxy, where))
        assert answer.startswith(b"HTTP/1.1 403"), where
        assert b"address_refused" in answer


async def test_what_cannot_be_reached_is_502(house: EgressHouse) -> None:
    house.declare({"allow": ["nowhere.test"]})
    proxy = await house.serve(house.gate())
    answer = await said(proxy, connect(proxy, "nowhere.test:443"))
    assert answer.startswith(b"HTTP/1.1 502")
    assert b"does not resolve" in answer


async def test_socks_without_a_password_or_for_another_thing_than_connecting(house: EgressHouse) -> None:
    house.declare({"allow": [{"host": "*", "any": True}]})
    proxy = await house.serve(house.gate())
    assert await said(proxy, b"\x05\x01\x00") == b"\x05\xff"
    assert await said(proxy, b"\x05\x01\x02\x01\x06carrel\x01x") == b"\x05\x02\x01\x01"
    key = (urlsplit(proxy).password or "").encode()
    login = b"\x05\x01\x02\x01\x06carrel" + bytes([len(key)]) + key
    bind = login + b"\x05\x02\x00\x01\x01\x01\x01\x01\x01\xbb"
    assert (await said(proxy, bind))[4:6] == b"\x05\x07"
    inside = login + b"\x05\x01\x00\x01\x7f\x00\x00\x01\x01\xbb"
    assert (await said(proxy, inside))[4:6] == b"\x05\x02"


async def test_who_says_nothing_more_is_let_go(house: EgressHouse) -> None:
    proxy = await house.serve(house.gate())
    parts = urlsplit(proxy)
    for start in (b"", b"CONN", b"\x05", b"\x05\x01"):
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(start)
        writer.close()


def test_what_authorises_and_what_names() -> None:
    class Knows:
        def seat(self, password: str) -> str | None:
            return "mine" if password == "x" else None

    def given(text: str) -> bytes:
        return b"Basic " + base64.b64encode(text.encode())

    assert authorised(given("carrel:x"), Knows()) == "mine"
    for wrong in (None, b"", b"Basic", b"Basic !", given("carrel:y"), given("root:x"), b"Bearer x"):
        assert authorised(wrong, Knows()) is None
    assert str(asked_of("[::1]:443")) == "[::1]:443"
