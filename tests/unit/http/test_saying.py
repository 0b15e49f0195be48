"""Answers in their callers' dialects, as a caller of each sees them come and break off."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from carrel.errors import UpstreamError
from carrel.wire.conversation import Finished, Message, ModelEvent, ModelRequest, Text, TextDelta
from tests.fakes.edge import OneProvider, bearer, running_edge, token_of

ASKS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9},
    "/v1/responses": {"input": "hi"},
}


class Breaks:
    """A provider that breaks off after some pieces."""

    name = "demo"

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        for _ in range(self.pieces):
            yield TextDelta("four")
        raise UpstreamError("It broke.", status=503)

    async def close(self) -> None:
        return


@pytest.mark.parametrize("path", ASKS)
async def test_a_stream_that_breaks_off_ends_with_an_error_of_its_dialect(
    tmp_path: Path, client: aiohttp.ClientSession, path: str
) -> None:
    async with running_edge(tmp_path, providers=OneProvider(Breaks(2))) as edge:
        body = {"model": "demo", "stream": True, **ASKS[path]}
        async with client.post(edge.url + path, json=body, headers=bearer(token_of("acme"))) as reply:
            assert reply.status == 200
            last = json.loads((await reply.text()).strip().splitlines()[-1].removeprefix("data: "))
    said = last if path.endswith("responses") else last["error"]
    assert (said["code"], said["message"]) == ("upstream_error", "It broke.")
    assert last.get("type") == (None if path.endswith("completions") else "error")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ASKS)
async def test_what_fails_before_a_word_keeps_its_status(
    tmp_path: Path, client: aiohttp.ClientSession, path: str, stream: bool
) -> None:
    async with running_edge(tmp_path, providers=OneProvider(Breaks(0))) as edge:
        body = {"model": "demo", "stream": stream, **ASKS[path]}
        async with client.post(edge.url + path, json=body, headers=bearer(token_of("acme"))) as reply:
            assert reply.status == 502
            assert (await reply.json())["error"]["code"] == "upstream_error"


class HalfAPair:
    """A provider whose pieces end in the middle of a character."""

    name = "demo"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        for piece in ("\ud83d", "\ude00"):
            yield TextDelta(piece)
        yield Finished(Message("assistant", (Text("\ud83d\ude00"),)), "end", None)

    async def close(self) -> None:
        return


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ASKS)
async def test_half_a_character_passes_as_its_vendor_sent_it(
    tmp_path: Path, client: aiohttp.ClientSession, path: str, stream: bool
) -> None:
    async with running_edge(tmp_path, providers=OneProvider(HalfAPair())) as edge:
        body = {"model": "demo", "stream": stream, **ASKS[path]}
        async with client.post(edge.url + path, json=body, headers=bearer(token_of("acme"))) as reply:
            assert reply.status == 200
            said = await reply.text()
        assert edge.meter.reservations[0].settled[0][1] == "ok"
    assert "\\ud83d" in said
    assert "\\ude00" in said
    if not stream:
        assert "\U0001f600" in json.dumps(json.loads(said), ensure_ascii=False)
