"""Events on their way."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from carrel.http.services import Limits
from carrel.http.streaming import closing
from tests.fakes.edge import bearer, chat_body, running_edge, token_of
from tests.fakes.patience import PATIENCE, eventually


async def test_what_stands_behind_events_is_closed_with_the_block() -> None:
    closed: list[str] = []

    async def events() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append("yes")

    async with closing(events()) as stream:
        async for value in stream:
            assert value == 1
            break
    assert closed == ["yes"]


async def test_a_reader_that_stops_is_cut_off_and_its_turn_cancelled(tmp_path: Path) -> None:
    limits = Limits(write_stall_seconds=0.3, recheck_seconds=0.05)
    async with running_edge(tmp_path, limits=limits) as edge:
        size = 1_500_000
        body = chat_body("x" * size, stream=True)
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port, limit=1024)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token_of('acme')}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        # The answer is as long as the question, and nobody reads it: small pieces would fit in the kernel's buffers.
        for _ in range(8):
            writer.write(head.encode() + body)
        await eventually(lambda: not edge.server._connections() and edge.agents.turns)
        assert len(edge.agents.turns) < 8
        writer.close()
        assert reader is not None


async def test_a_reader_that_goes_on_gets_everything(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    async with running_edge(tmp_path, limits=Limits(write_stall_seconds=PATIENCE, recheck_seconds=0.01)) as edge:
        body = chat_body("x" * 900_000, stream=True)
        headers = bearer(token_of("acme"))
        async with client.post(edge.url + "/v1/chat/completions", data=body, headers=headers) as reply:
            text = await reply.text()
    assert text.endswith("data: [DONE]\n\n")
    assert text.count("x") >= 900_000
