"""Bodies within their limits."""

import asyncio
import io
import json
from pathlib import Path

import aiohttp
import pytest
from pydantic import BaseModel, ConfigDict

from carrel.errors import InvalidRequest
from carrel.http.body import parse_model, path_of
from carrel.http.services import Limits
from tests.fakes.edge import Edge, bearer, chat_body, running_edge, token_of
from tests.fakes.patience import PATIENCE, eventually, soon

ACME = bearer(token_of("acme"))
HEAD = (
    f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token_of('acme')}\r\n"
    "Content-Type: application/json\r\n"
)


class Inner(BaseModel):
    """A part."""

    model_config = ConfigDict(strict=True, extra="forbid")
    numbers: tuple[int, ...] = ()


class Outer(BaseModel):
    """A body."""

    model_config = ConfigDict(strict=True, extra="forbid")
    inner: Inner = Inner()


async def connect(edge: Edge) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", edge.server.port)


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, object]]:
    head = await soon(reader.readuntil(b"\r\n\r\n"))
    length = int(
        next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")).split(b":")[1]
    )
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


async def pour(writer: asyncio.StreamWriter, piece: bytes, *, up_to: int) -> int:
    """Send ``piece`` again and again until the other side has had enough; what was sent."""
    sent = 0
    try:
        while sent < up_to:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
    except ConnectionError:
        pass
    return sent


async def test_a_body_announced_as_too_large_is_refused_before_it_is_read(edge: Edge) -> None:
    reader, writer = await connect(edge)
    writer.write((HEAD + "Content-Length: 100000000\r\n\r\n").encode())
    status, body = await answer(reader)
    assert status == 413
    assert body["error"]["code"] == "too_large"  # type: ignore[index] # JSON
    assert await pour(writer, b"x" * 65536, up_to=100_000_000) < 50_000_000
    writer.close()


@pytest.mark.parametrize("known", [True, False])
async def test_who_sends_all_before_it_reads_sees_why_it_was_refused_where_it_is_known(edge: Edge, known: bool) -> None:
    size = 40 << 20
    head = HEAD if known else HEAD.replace(token_of("acme"), token_of("acme")[::-1])
    reader, writer = await connect(edge)
    writer.write((head + f"Content-Length: {size}\r\n\r\n").encode())
    sent = await soon(pour(writer, b"x" * 65536, up_to=size))
    assert (sent == size) is known
    if known:
        assert (await answer(reader))[0] == 413
    writer.close()


async def test_who_goes_with_the_refusal_in_hand_was_refused_and_did_not_go_away(edge: Edge) -> None:
    reader, writer = await connect(edge)
    writer.write((HEAD + "Content-Length: 100000000\r\n\r\n").encode())
    assert (await answer(reader))[0] == 413
    writer.transport.abort()

    def counted(status: int) -> bool:
        line = f'carrel_requests_total{{route="/v1/chat/completions",status="{status}",tenant="acme"}}'
        return line in edge.services.metrics.render().decode()

    await eventually(lambda: counted(413))
    assert not counted(499)


async def test_a_body_that_grows_too_large_on_the_way_is_refused(edge: Edge) -> None:
    reader, writer = await connect(edge)
    writer.write((HEAD + "Transfer-Encoding: chunked\r\n\r\n").encode())
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    pouring = asyncio.ensure_future(pour(writer, piece, up_to=100_000_000))
    status, _ = await answer(reader)
    assert status == 413
    assert await soon(pouring) < 50_000_000
    writer.close()


async def test_a_body_at_the_limit_goes_through(edge: Edge, client: aiohttp.ClientSession) -> None:
    body = chat_body("x" * (2 * 1024 * 1024 - 200), model="vendor-large")
    async with client.post(edge.url + "/v1/chat/completions", data=io.BytesIO(body), headers=ACME) as reply:
        assert reply.status == 200
    assert edge.relay.bodies == [body]


async def test_a_body_that_stalls_is_given_up(tmp_path: Path) -> None:
    async with running_edge(tmp_path, limits=Limits(body_stall_seconds=0.2)) as edge:
        reader, writer = await connect(edge)
        writer.write((HEAD + "Content-Length: 100\r\n\r\n{").encode())
        status, _ = await answer(reader)
        assert status == 408
        assert await soon(reader.read()) == b""
        writer.close()


async def test_a_body_that_trickles_is_given_up(tmp_path: Path) -> None:
    async with running_edge(tmp_path, limits=Limits(body_stall_seconds=PATIENCE, body_seconds=0.4)) as edge:
        reader, writer = await connect(edge)
        writer.write((HEAD + "Content-Length: 1000\r\n\r\n").encode())

        async def trickle() -> None:
            while True:
                writer.write(b" ")
                await asyncio.sleep(0.05)

        trickling = asyncio.ensure_future(trickle())
        status, _ = await answer(reader)
        assert status == 408
        trickling.cancel()
        writer.close()


async def test_headers_that_trickle_are_given_up(tmp_path: Path) -> None:
    async with running_edge(tmp_path, limits=Limits(header_seconds=0.4)) as edge:
        reader, writer = await connect(edge)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: local")
        assert await soon(reader.read()) == b""
        writer.close()


async def test_continue_is_said_after_the_caller_was_let_in(edge: Edge) -> None:
    reader, writer = await connect(edge)
    body = chat_body("hello")
    writer.write((HEAD + f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n").encode())
    assert (await soon(reader.readuntil(b"\r\n\r\n"))).startswith(b"HTTP/1.1 100 ")
    writer.write(body)
    status, _ = await answer(reader)
    assert status == 200
    writer.close()
    reader, writer = await connect(edge)
    refused = HEAD.replace(token_of("acme"), "tk_acme_" + "0" * 32)
    writer.write((refused + f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n").encode())
    status, _ = await answer(reader)
    assert status == 401
    writer.close()


async def test_compressed_bodies_are_not_taken(edge: Edge, client: aiohttp.ClientSession) -> None:
    headers = {**ACME, "Content-Encoding": "gzip"}
    async with client.post(edge.url + "/v1/chat/completions", data=b"\x1f\x8b", headers=headers) as reply:
        assert reply.status == 415


def test_a_model_names_the_field_that_is_wrong() -> None:
    assert parse_model(Outer, b"") == Outer()
    assert parse_model(Outer, b'{"inner":{"numbers":[1]}}').inner.numbers == (1,)
    for body, param in ((b'{"inner":{"numbers":["x"]}}', "inner.numbers[0]"), (b'{"other":1}', "other"), (b"{", None)):
        with pytest.raises(InvalidRequest) as caught:
            parse_model(Outer, body)
        assert caught.value.param == param


def test_a_path_is_written_as_people_write_it() -> None:
    assert path_of(("a", 0, "b", "c")) == "a[0].b.c"
    assert path_of(()) == ""
