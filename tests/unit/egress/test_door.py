"""Requests in clear and out of ended TLS: judged one by one, made anew, and nothing of a secret comes back."""

import asyncio
import gzip
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from carrel.declare.hosts import canonical
from tests.fakes.egress import EgressHouse, curl, local
from tests.fakes.patience import PATIENCE
from tests.unit.egress.test_front import password, said

VALUE = "s3cr3t-of-the-test"
SEEN: list[dict[str, Any]] = []


async def mirror(request: web.Request) -> web.StreamResponse:
    """Tell what came, in the ways that a host may say a secret back."""
    body = await request.read()
    told = {"method": request.method, "path": str(request.rel_url), "headers": dict(request.headers),
            "body": body.decode("utf-8", "replace")}  # fmt: skip
    SEEN.append(told)
    text = json.dumps(told)
    if request.path == "/gzip":
        return web.Response(body=gzip.compress(text.encode()), headers={"Content-Encoding": "gzip"})
    if request.path == "/header":
        return web.Response(headers={"X-Said": request.headers.get("X-Key", "")})
    if request.path == "/pieces":
        answer = web.StreamResponse()
        await answer.prepare(request)
        for letter in request.headers.get("X-Key", ""):
            await answer.write(letter.encode())
        await answer.write_eof()
        return answer
    if request.path == "/redirect":
        return web.Response(status=302, headers={"Location": "https://evil.test/", "Set-Cookie": "a=b"})
    if request.path == "/empty":
        return web.Response(status=204)
    return web.Response(text=text, content_type="application/json")


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    SEEN.clear()


async def looked_into(house: EgressHouse, **rule: object) -> tuple[str, str, bytes]:
    """A host whose requests are looked into: the proxy, its address, and whom to trust."""
    port = await house.host("api.example.test", mirror)
    house.declare({"allow": [local("api.example.test", port, **{"paths": ["/"], **rule})]})
    return await house.serve(house.gate()), f"https://api.example.test:{port}", _ca(house)


def _ca(house: EgressHouse) -> bytes:
    return house.egress.authority(house.tenant.id).certificate


async def injected(house: EgressHouse, **more: object) -> tuple[str, str, str]:
    """A host that a secret is put in for: the proxy, its address, and the placeholder."""
    port = await house.host("api.example.test", mirror)
    declared = {"secret": "TOK", "env": "TOK", "hosts": [f"api.example.test:{port}"], "header": "X-Key", **more}
    house.declare({"allow": [local("api.example.test", port)], "inject": [declared]})
    house.secrets.values["TOK"] = VALUE
    gate = house.gate()
    return await house.serve(gate), f"https://api.example.test:{port}", gate.env["TOK"]


async def test_plain_requests_are_judged_and_made_anew(house: EgressHouse) -> None:
    port = await house.host("plain.test", mirror, secure=False)
    house.declare({"allow": [local("plain.test", port, tls=False)]})
    proxy = await house.serve(house.gate())
    done = await curl(proxy, f"http://plain.test:{port}/x?a=b%20c#frag", "-d", "hello", "-H", "X-A: 1")
    told = json.loads(done.body)
    assert (told["method"], told["path"], told["body"]) == ("POST", "/x?a=b%20c", "hello")
    assert told["headers"]["X-A"] == "1"
    assert not {name.lower() for name in told["headers"]} & {"proxy-authorization", "proxy-connection", "connection"}
    refused = await curl(proxy, "http://other.test/")
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (403, "egress_denied")


async def test_methods_and_paths_are_judged_request_by_request(house: EgressHouse) -> None:
    proxy, url, ca = await looked_into(house, methods=["GET"], paths=["/v1/"])
    assert (await curl(proxy, f"{url}/v1/x", ca=ca)).status == 200
    assert (await curl(proxy, f"{url}/v1/x", "-X", "DELETE", ca=ca)).status == 403
    assert (await curl(proxy, f"{url}/v2/x", ca=ca)).status == 403
    done = await curl(proxy, "--path-as-is", f"{url}/v1/../v2", ca=ca)
    assert done.status == 403
    assert [told["path"] for told in SEEN] == ["/v1/x"]


async def test_S4_04_the_inner_host_must_be_the_one_that_was_asked_for(house: EgressHouse) -> None:
    proxy, url, ca = await looked_into(house)
    assert (await curl(proxy, f"{url}/", ca=ca)).status == 200
    assert (await curl(proxy, f"{url}/", "-H", "Host: evil.test", ca=ca)).status == 421
    assert (await curl(proxy, f"{url}/", "-X", "TRACE", ca=ca)).status == 400
    assert len(SEEN) == 1


@pytest.mark.parametrize(
    "lines",
    [
        ["POST {url} HTTP/1.1", "Host: {host}", "Content-Length: 5", "Transfer-Encoding: chunked", "", "0", "", ""],
        ["GET {url} HTTP/1.1", "Host: {host}", "Host: evil.test", "", ""],
        ["GET {url} HTTP/1.1", "Host: {host}", "X-A: b", " c", "", ""],
        ["POST {url} HTTP/1.1", "Host: {host}", "Content-Length: 5", "Content-Length: 6", "", "hello"],
        ["POST {url} HTTP/1.1", "Host: {host}", "Transfer-Encoding: chunked, identity", "", "0", "", ""],
        ["GET {url} HTTP/1.1", "Host : {host}", "", ""],
        ["GET {url} HTTP/1.1", "", ""],
        ["TRACE {url} HTTP/1.1", "Host: {host}", "", ""],
        ["GET http://u:p@{host}/ HTTP/1.1", "Host: {host}", "", ""],
        ["GET / HTTP/1.1", "Host: {host}", "", ""],
        ["GET https://{host}/ HTTP/1.1", "Host: {host}", "", ""],
    ],
)
async def test_S4_05_what_is_read_in_two_ways_never_passes(house: EgressHouse, lines: list[str]) -> None:
    port = await house.host("plain.test", mirror, secure=False)
    house.declare({"allow": [local("plain.test", port, tls=False)]})
    proxy = await house.serve(house.gate())
    host = f"plain.test:{port}"
    first, *rest = (line.format(url=f"http://{host}/x", host=host) for line in lines)
    data = "\r\n".join([first, f"Proxy-Authorization: {password(proxy)}", *rest]).encode()
    answer = await said(proxy, data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
    assert answer.split(b" ")[1] in (b"400", b"421"), answer
    assert SEEN == []


async def test_S4_05_a_body_is_framed_anew_and_trailers_go(house: EgressHouse) -> None:
    port = await house.host("plain.test", mirror, secure=False)
    house.declare({"allow": [local("plain.test", port, tls=False)]})
    proxy = await house.serve(house.gate())
    head = (f"GET http://plain.test:{port}/x HTTP/1.1\r\nHost: plain.test:{port}\r\nConnection: close, X-Hop\r\n"
            f"X-Hop: 1\r\nProxy-Authorization: {password(proxy)}\r\nTransfer-Encoding: chunked\r\n\r\n")  # fmt: skip
    await said(proxy, head.encode() + b"5;ext=1\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n")
    (told,) = SEEN
    assert told["body"] == "hello"
    assert not {"X-Hop", "X-Trailer"} & set(told["headers"])


async def test_answers_come_back_as_they_are(house: EgressHouse) -> None:
    proxy, url, ca = await looked_into(house)
    done = await curl(proxy, f"{url}/redirect", "-i", ca=ca)
    assert done.status == 302
    assert "location: https://evil.test/" in done.body.lower()
    assert "set-cookie: a=b" in done.body.lower()
    assert (await curl(proxy, f"{url}/empty", ca=ca)).status == 204
    assert json.loads((await curl(proxy, f"{url}/gzip", "--compressed", ca=ca)).body)["path"] == "/gzip"
    assert (await curl(proxy, f"{url}/x", "-I", ca=ca)).status == 200


async def test_S5_01_the_host_gets_the_secret_and_the_sandbox_does_not(house: EgressHouse) -> None:
    proxy, url, mark = await injected(house)
    for path in ("/", "/gzip", "/pieces", "/header"):
        SEEN.clear()
        done = await curl(proxy, "-i", f"{url}{path}", "-H", f"X-Key: {mark}", ca=_ca(house))
        assert done.status == 200, done
        assert SEEN[0]["headers"]["X-Key"] == VALUE
        assert VALUE not in done.body
        assert mark in done.body


async def test_S5_02_a_host_that_knows_it_from_before_does_not_say_it_either(house: EgressHouse) -> None:
    async def telling(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=f"your token is {VALUE}", headers={"X-Token": VALUE}, reason=f"OK {VALUE}")

    port = await house.host("api.example.test", telling)
    declared = {"secret": "TOK", "env": "TOK", "hosts": [f"api.example.test:{port}"], "header": "X-Key"}
    house.declare({"allow": [local("api.example.test", port)], "inject": [declared]})
    house.secrets.values["TOK"] = VALUE
    gate = house.gate()
    done = await curl(await house.serve(gate), "-i", f"https://api.example.test:{port}/", ca=_ca(house))
    assert VALUE not in done.body
    assert f"your token is {gate.env['TOK']}" in done.body


async def test_S5_01_elsewhere_it_is_refused(house: EgressHouse) -> None:
    proxy, url, mark = await injected(house)
    for words in (("-H", f"X-Other: {mark}"), ("-d", f"x={mark}"), ("-G", "-d", f"x={mark}")):
        done = await curl(proxy, f"{url}/", *words, ca=_ca(house))
        assert (done.status, json.loads(done.body)["error"]["code"]) == (403, "placeholder_misplaced")
    assert VALUE not in json.dumps(SEEN)


async def test_S5_01_another_agent_has_another_one(house: EgressHouse) -> None:
    _, url, mark = await injected(house)
    other = await house.serve(house.gate("other"))
    done = await curl(other, f"{url}/", "-H", f"X-Key: {mark}", ca=_ca(house))
    assert done.status == 403


async def test_a_secret_that_is_not_there_is_told(house: EgressHouse) -> None:
    proxy, url, mark = await injected(house)
    house.secrets.values.clear()
    done = await curl(proxy, f"{url}/", "-H", f"X-Key: {mark}", ca=_ca(house))
    assert (done.status, json.loads(done.body)["error"]["code"]) == (502, "secret_missing")


async def test_a_host_whose_certificate_does_not_hold_gets_nothing(house: EgressHouse) -> None:
    port = await house.host("other.test", mirror)
    house.names.known["api.example.test"] = [["127.0.0.1"]]
    declared = {"secret": "TOK", "env": "TOK", "hosts": [f"api.example.test:{port}"], "header": "X-Key"}
    house.declare({"allow": [local("api.example.test", port)], "inject": [declared]})
    house.secrets.values["TOK"] = VALUE
    gate = house.gate()
    proxy = await house.serve(gate)
    done = await curl(proxy, f"https://api.example.test:{port}/", "-H", f"X-Key: {gate.env['TOK']}", ca=_ca(house))
    assert done.status == 502
    assert "certificate" in done.body
    assert SEEN == []


async def test_large_bodies_go_both_ways(house: EgressHouse) -> None:
    async def sized(request: web.Request) -> web.StreamResponse:
        count = 0
        async for piece in request.content.iter_any():
            count += len(piece)
        return web.Response(body=b"y" * count)

    port = await house.host("api.example.test", sized)
    house.declare({"allow": [local("api.example.test", port, paths=["/"])]})
    proxy = await house.serve(house.gate())
    done = await curl(proxy, f"https://api.example.test:{port}/", "--data-binary", "@/usr/bin/curl", "-o", "/dev/null",
                      "-w", "%{size_upload} %{size_download}\n%{http_code}", ca=_ca(house))  # fmt: skip
    up, down = done.body.split()
    assert up == down != "0"


async def test_events_pass_as_they_come(house: EgressHouse) -> None:
    go = asyncio.Event()

    async def events(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: one\n\n")
        await go.wait()
        await answer.write(b"data: two\n\n")
        return answer

    port = await house.host("plain.test", events, secure=False)
    house.declare({"allow": [local("plain.test", port, tls=False)]})
    proxy = await house.serve(house.gate())
    parts = urlsplit(proxy)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(
        f"GET http://plain.test:{port}/ HTTP/1.1\r\nHost: plain.test:{port}\r\n"
        f"Proxy-Authorization: {password(proxy)}\r\n\r\n".encode()
    )
    async with asyncio.timeout(PATIENCE):
        await reader.readuntil(b"data: one\n\n")
        go.set()
        await reader.readuntil(b"data: two\n\n")
    writer.close()


async def test_a_suspended_tenant_reaches_nothing(house: EgressHouse) -> None:
    proxy, url, ca = await looked_into(house)
    assert (await curl(proxy, f"{url}/", ca=ca)).status == 200
    from dataclasses import replace  # noqa: PLC0415

    current = house.directory.current
    house.directory.publish(replace(current, tenants={house.tenant.id: replace(house.tenant, suspended=True)}))
    assert (await curl(proxy, f"{url}/", ca=ca)).code != 0


@pytest.mark.parametrize(("length", "bound"), [("Content-Length: 100000", False), ("Transfer-Encoding: chunked", False),
                                               ("Content-Length: 100000", True)])  # fmt: skip
async def test_an_answer_that_is_cut_is_cut_for_the_client_too(house: EgressHouse, length: str, bound: bool) -> None:
    """Nothing of the gateway's own stands where the rest of it would."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        chunk = b"3e8\r\n" if "chunked" in length else b""
        writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode() + chunk + b"x" * 1000 + b"\r\n" * bool(chunk))
        await writer.drain()
        writer.close()

    tls = house.public.context(canonical("cut.test")) if bound else None
    server = await asyncio.start_server(cut, "127.0.0.1", 0, ssl=tls)
    house.stack.callback(server.close)
    house.names.known["cut.test"] = [["127.0.0.1"]]
    port = int(server.sockets[0].getsockname()[1])
    declared: dict[str, object] = {"allow": [local("cut.test", port, tls=bound)]}
    if bound:
        secret = {"secret": "TOK", "env": "TOK", "hosts": [f"cut.test:{port}"], "header": "X-Key"}
        house.secrets.values["TOK"] = VALUE
        declared["inject"] = [secret]
    house.declare(declared)
    scheme = "https" if bound else "http"
    done = await curl(await house.serve(house.gate()), f"{scheme}://cut.test:{port}/", ca=_ca(house))
    assert done.code in (18, 56), done.err
    assert set(done.body) <= {"x"}


@pytest.mark.parametrize("path", ["/{mark}/send", "/x/{mark}"])
async def test_S5_01_a_placeholder_in_a_path_is_misplaced(house: EgressHouse, path: str) -> None:
    proxy, url, mark = await injected(house)
    done = await curl(proxy, url + path.replace("{mark}", mark), ca=_ca(house))
    assert (done.status, json.loads(done.body)["error"]["code"]) == (403, "placeholder_misplaced")
    assert SEEN == []
    assert (await curl(proxy, f"{url}/x", "-H", f"X-Key: {mark}", ca=_ca(house))).status == 200


async def test_S5_02_an_answer_in_two_encodings_is_not_passed(house: EgressHouse) -> None:
    async def twice(request: web.BaseRequest) -> web.StreamResponse:
        body = gzip.compress(request.headers.get("X-Key", "").encode())
        answer = web.Response(body=body)
        answer.headers.add("Content-Encoding", "identity")
        answer.headers.add("Content-Encoding", "gzip" if request.path == "/known" else "br")
        return answer

    port = await house.host("api.example.test", twice)
    declared = {"secret": "TOK", "env": "TOK", "hosts": [f"api.example.test:{port}"], "header": "X-Key"}
    house.declare({"allow": [local("api.example.test", port)], "inject": [declared]})
    house.secrets.values["TOK"] = VALUE
    gate = house.gate()
    proxy, url, ask = await house.serve(gate), f"https://api.example.test:{port}", f"X-Key: {gate.env['TOK']}"
    assert (await curl(proxy, f"{url}/other", "-H", ask, ca=_ca(house))).status == 502
    known = await curl(proxy, f"{url}/known", "-H", ask, ca=_ca(house))
    assert (known.status, known.body) == (200, gate.env["TOK"])
