"""Security 6.3 and 6.4 at the edge: hosts, browsers, and framing attacks against the real listener."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.fakes.edge import Edge, running_edge, token_of
from tests.fakes.patience import soon

AUTH = f"Authorization: Bearer {token_of('acme')}\r\n".encode()
BODY = b'{"jsonrpc":"2.0","id":1,"method":"health"}'
LAST = b"Connection: close\r\n"
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n" + AUTH + b"\r\n"


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path) as running:
        yield running


async def raw(edge: Edge, data: bytes) -> bytes:
    """What came back until the server closed the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
    answer = b""
    try:
        writer.write(data)
        while piece := await soon(reader.read(65536)):
            answer += piece
    except ConnectionError:
        pass
    finally:
        writer.close()
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"(?:^|(?<=[\n}]))HTTP/1\.[01] (\d{3})", answer)]


def post(*lines: bytes, body: bytes = BODY, host: bytes = b"Host: localhost\r\n") -> bytes:
    return b"POST /rpc HTTP/1.1\r\n" + host + AUTH + b"".join(lines) + b"\r\n" + body


LENGTH = b"Content-Length: " + str(len(BODY)).encode() + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
AS_CHUNK = f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n\r\n"

VECTORS = {
    "length and chunked": post(LENGTH, CHUNKED, body=AS_CHUNK + SMUGGLED),
    "chunked and length": post(CHUNKED, LENGTH, body=AS_CHUNK + SMUGGLED),
    "two lengths": post(LENGTH, b"Content-Length: 5\r\n", body=BODY + SMUGGLED),
    "two lengths in one": post(LENGTH.replace(b"\r\n", b", 5\r\n"), body=BODY + SMUGGLED),
    "signed length": post(b"Content-Length: +42\r\n", body=BODY + SMUGGLED),
    "hex length": post(b"Content-Length: 0x2a\r\n", body=BODY + SMUGGLED),
    "negative length": post(b"Content-Length: -1\r\n", body=BODY + SMUGGLED),
    "underscored length": post(b"Content-Length: 4_2\r\n", body=BODY + SMUGGLED),
    "space before the colon": post(b"Content-Length : 42\r\n", body=BODY + SMUGGLED),
    "folded header": post(LENGTH, b"X-A: b\r\n c\r\n", body=BODY + SMUGGLED),
    "bare line feeds": post(LENGTH).replace(b"\r\n", b"\n"),
    "bare carriage return": post(b"X-A: b\rc\r\n", LENGTH),
    "NUL in a header": post(b"X-A: b\0c\r\n", LENGTH),
    "unknown coding": post(b"Transfer-Encoding: chunky\r\n", body=AS_CHUNK),
    "coding twice": post(b"Transfer-Encoding: chunked, chunked\r\n", body=AS_CHUNK + SMUGGLED),
    "coding before chunked with a vertical tab": post(b"Transfer-Encoding:\x0bchunked\r\n", body=AS_CHUNK + SMUGGLED),
    "chunk size with a sign": post(CHUNKED, body=b"+2a\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk size with 0x": post(CHUNKED, body=b"0x2a\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk size too great": post(CHUNKED, body=b"fffffffffffffffff\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk ended by a line feed": post(CHUNKED, body=AS_CHUNK.replace(b"\r\n", b"\n", 1)),
    "chunk longer than said": post(CHUNKED, body=b"5\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "two hosts": post(LENGTH, b"Host: evil.example\r\n"),
    "no host": post(LENGTH, host=b""),
    "header without a name": post(b": x\r\n", LENGTH),
    "header with a space in its name": post(b"X A: x\r\n", LENGTH),
    "no version": post(LENGTH).replace(b" HTTP/1.1", b"", 1),
    "version 3": post(LENGTH).replace(b"HTTP/1.1", b"HTTP/3.0", 1),
    "garbage before": b"\x16\x03\x01garbage\r\n\r\n",
}


@pytest.mark.parametrize("name", VECTORS)
async def test_S6_04_framing_attacks_are_rejected(edge: Edge, name: str) -> None:
    answer = await raw(edge, VECTORS[name])
    found = statuses(answer)
    assert not any(200 <= code < 300 for code in found), (name, answer[:400])
    assert len(found) <= 1, (name, found)
    assert b'"object": "list"' not in answer


def completion(vector: bytes) -> bytes:
    """The same attack on the path that has a short way past the parser."""
    return vector.replace(b"POST /rpc", b"POST /v1/chat/completions", 1)


@pytest.mark.parametrize("name", VECTORS)
async def test_S6_04_framing_attacks_are_rejected_on_the_short_way(edge: Edge, name: str) -> None:
    answer = await raw(edge, completion(VECTORS[name]))
    found = statuses(answer)
    assert not any(200 <= code < 300 for code in found), (name, answer[:400])
    assert len(found) <= 1, (name, found)
    assert b'"object": "list"' not in answer
    assert not edge.relay.bodies


@pytest.mark.parametrize("name", VECTORS)
async def test_S6_04_framing_attacks_are_rejected_behind_a_request_on_the_short_way(edge: Edge, name: str) -> None:
    plain = b'{"model":"vendor-large","messages":[]}'
    length = b"Content-Length: " + str(len(plain)).encode() + b"\r\n"
    answer = await raw(edge, completion(post(length, body=plain)) + completion(VECTORS[name]))
    found = statuses(answer)
    assert found[0] == 200, (name, answer[:400])
    assert not any(200 <= code < 300 for code in found[1:]), (name, answer[:400])
    assert len(found) <= 2, (name, found)
    assert edge.relay.bodies == [plain]


async def test_S6_04_the_permitted_twins_are_served(edge: Edge) -> None:
    assert statuses(await raw(edge, post(LENGTH, LAST))) == [200]
    assert statuses(await raw(edge, post(CHUNKED, LAST, body=AS_CHUNK))) == [200]
    assert statuses(await raw(edge, post(LENGTH, body=BODY + post(LENGTH, LAST)))) == [200, 200]


async def test_S6_04_a_generated_set_never_yields_two_answers_to_one_request(edge: Edge) -> None:
    names = (b"Content-Length", b"content-length", b"Content-Length ", b"\tContent-Length", b"Content-Length\x0b")
    values = (b"42", b" 42", b"42 ", b"042", b"+42", b"4 2", b"42,42", b"4.2e1", b"\x0b42", b"")
    for name, value in itertools.product(names, values):
        data = post(CHUNKED, name + b": " + value + b"\r\n", body=AS_CHUNK + SMUGGLED)
        found = statuses(await raw(edge, data))
        assert found in ([400], []), (name, value, found)


def test_S6_04_the_parser_is_recent() -> None:
    assert tuple(int(n) for n in version("aiohttp").split(".")[:3]) >= (3, 14, 3)


async def test_S6_03_a_name_that_is_not_ours_is_refused_whatever_the_target_says(edge: Edge) -> None:
    evil = post(LENGTH, LAST, host=b"Host: evil.example\r\n")
    assert statuses(await raw(edge, evil)) == [421]
    absolute = post(LENGTH, LAST, host=b"Host: evil.example\r\n").replace(b"/rpc", b"http://localhost/rpc", 1)
    assert statuses(await raw(edge, absolute)) == [421]
    ours = post(LENGTH, LAST, host=b"Host: 127.0.0.1:1\r\n")
    assert statuses(await raw(edge, ours)) == [200]


async def test_S6_03_authorisation_is_judged_on_the_route_and_not_on_a_crafted_host(edge: Edge) -> None:
    for host in (b"localhost/healthz?", b"localhost#", b"x@localhost", b"localhost:80/healthz"):
        head = b"POST /rpc HTTP/1.1\r\nHost: " + host + b"\r\n" + LENGTH + LAST + b"\r\n"
        assert statuses(await raw(edge, head + BODY)) == [400], host
    for path in (b"/healthz/../rpc", b"//rpc", b"/rpc/", b"/healthz%2f..%2frpc", b"/RPC", b"/healthz;/rpc"):
        head = b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\n" + LENGTH + LAST + b"\r\n"
        [status] = statuses(await raw(edge, head + BODY))
        assert status in (401, 404), (path, status)


async def test_S6_03_forwarded_headers_are_not_believed(edge: Edge) -> None:
    wrong = b"Authorization: Bearer tk_acme_" + b"0" * 32 + b"\r\n"
    counted = 0
    for n in range(70):
        forged = f"X-Forwarded-For: 198.51.100.{n}\r\nForwarded: for=198.51.100.{n}\r\n".encode()
        head = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + wrong + forged + b"\r\n"
        counted += statuses(await raw(edge, head)) == [429]
    assert counted == 10
