"""What the parser refuses."""

import asyncio

from structlog.testing import capture_logs

from tests.fakes.edge import Edge
from tests.fakes.patience import soon


async def test_the_parsers_refusal_is_ours_and_the_connection_closes(edge: Edge) -> None:
    with capture_logs() as lines:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nBad\x00Name: canary\r\n\r\n")
        answer = await soon(reader.read())
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == b"400"
    assert b"application/problem+json" in head
    assert b"X-Request-I" in head
    assert b"Server:" not in head
    assert b"canary" not in body
    assert [line["event"] for line in lines] == ["request refused by the parser"]


async def test_a_well_formed_request_on_the_next_connection_is_served(edge: Edge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await soon(reader.read())
    assert answer.startswith(b"HTTP/1.1 200 ")
    writer.close()
