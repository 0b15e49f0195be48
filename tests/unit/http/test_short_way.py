"""The short way and the ordinary one: the same request gets the same answer on both."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from carrel.errors import CarrelError, QuotaExceeded, UpstreamError
from carrel.http import connection
from carrel.http.services import Limits
from carrel.relay.answer import Answer, Caller
from tests.fakes.edge import Edge, chat_body, running_edge, token_of
from tests.fakes.patience import PATIENCE, eventually, soon
from tests.fakes.tenants import make_tenant
from tests.unit.relay.harness import Reply, read_reply

GOOD = token_of("acme")
VENDOR = chat_body("hi", model="vendor-large")
ODD = "Accept: */*\r\nTE: trailers\r\n"
"""Header lines that change nothing but that the request is not plain."""
SHORT, ORDINARY = "ShortCaller", "Relayed"


@dataclass
class Client:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, *requests: bytes) -> list[Reply]:
        self.writer.write(b"".join(requests))
        return [await self.reply() for _ in requests]

    async def reply(self) -> Reply:
        async with asyncio.timeout(PATIENCE):
            return await read_reply(self.reader)


@asynccontextmanager
async def connected(edge: Edge) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def post(body: bytes = VENDOR, *, token: str = GOOD, more: str = "", path: str = "/v1/chat/completions") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{more}"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def comparable(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in reply.headers.items() if name not in ("date", "x-request-id")}
    body = re.sub(rb"req_[0-9a-f]{24}", b"req", reply.body)
    return reply.status, headers, body


REFUSAL = QuotaExceeded(
    "Too many.", quota="requests_per_minute", retry_after=12, reset_at=datetime(2026, 3, 1, tzinfo=UTC)
)
TABLE: dict[str, tuple[bytes, dict[str, str]]] = {
    "a vendor's model": (VENDOR, {}),
    "a stream": (chat_body("hi", model="vendor-large", stream=True), {}),
    "a model of another dialect": (chat_body("hi", model="demo"), {}),
    "an unknown model": (chat_body("hi", model="nope"), {}),
    "an unknown agent": (chat_body("hi", model="agent:nobody"), {}),
    "no model": (b'{"messages":[]}', {}),
    "no messages": (b'{"model":"vendor-large"}', {}),
    "a key twice": (b'{"model":"vendor-large","model":"vendor-large","messages":[]}', {}),
    "no JSON": (b"{nope", {}),
    "no body": (b"", {}),
    "a wrong token": (VENDOR, {"token": token_of("acme", "9")}),
    "a malformed token": (VENDOR, {"token": "x" * 300}),
    "a token without the scope": (VENDOR, {"token": token_of("acme", "2")}),
    "a suspended tenant": (VENDOR, {"token": token_of("charlie")}),
}


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    tenants = [make_tenant(tmp_path, "acme"), make_tenant(tmp_path, "charlie", suspended=True)]
    async with running_edge(tmp_path, tenants=tenants) as running:
        running.tokens.add(token_of("acme", "2"), "acme", scopes=("rpc",))
        yield running


@pytest.mark.parametrize("name", TABLE)
async def test_the_same_answer_on_both_ways(edge: Edge, name: str) -> None:
    body, options = TABLE[name]
    async with connected(edge) as client:
        [plain] = await client.ask(post(body, token=options.get("token", GOOD)))
    async with connected(edge) as client:
        [odd] = await client.ask(post(body, token=options.get("token", GOOD), more=ODD))
    assert comparable(plain) == comparable(odd)
    if plain.status == 200 and b"vendor" in body:
        assert edge.relay.callers == [SHORT, ORDINARY]


@pytest.mark.parametrize(
    "error",
    [
        QuotaExceeded("Much.", quota="tokens_per_day", retry_after=99, reset_at=datetime(2026, 3, 1, tzinfo=UTC)),
        UpstreamError("It refused.", status=429, retry_after=7),
        UpstreamError("It broke."),
        ZeroDivisionError("a secret detail"),
    ],
)
async def test_an_error_on_the_way_reads_the_same_on_both(edge: Edge, error: Exception) -> None:
    async def fails(*_: Any, **__: Any) -> Any:
        raise error

    edge.relay.pass_on = fails  # type: ignore[method-assign] # whatever goes wrong there
    with capture_logs():
        async with connected(edge) as client:
            plain, second = await client.ask(post(), post())
        async with connected(edge) as client:
            [odd] = await client.ask(post(more=ODD))
    assert comparable(plain) == comparable(odd) == comparable(second)
    assert plain.status >= 400
    assert b"secret detail" not in plain.body


async def test_a_refusal_of_the_meter_reads_the_same_on_both(edge: Edge) -> None:
    edge.meter.refusal = REFUSAL
    async with connected(edge) as client:
        [plain] = await client.ask(post())
    async with connected(edge) as client:
        [odd] = await client.ask(post(more=ODD))
    assert comparable(plain) == comparable(odd)
    assert (plain.status, plain.headers["retry-after"]) == (429, "12")
    assert edge.meter.admitted == 2


async def test_soft_quotas_that_are_passed_are_named_on_both_ways(edge: Edge) -> None:
    async with connected(edge) as client:
        [before] = await client.ask(post())
        edge.meter.over = ("tokens_per_day", "requests_per_minute")
        [plain] = await client.ask(post())
    async with connected(edge) as client:
        [odd] = await client.ask(post(more=ODD))
    edge.meter.refusal = REFUSAL
    async with connected(edge) as client:
        [refused] = await client.ask(post())
    assert "x-quota-warning" not in before.headers
    for reply in (plain, odd, refused):
        assert reply.headers["x-quota-warning"] == "tokens_per_day, requests_per_minute"


async def test_a_request_is_counted_and_logged_once(edge: Edge) -> None:
    with capture_logs() as lines:
        async with connected(edge) as client:
            await client.ask(post(more="X-Request-Id: mine-1\r\n"), post(token=token_of("acme", "9")))
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["status"], line["tenant"], line["credential"]) for line in requests] == [
        (200, "acme", "tk_acme_11111111"), (401, "-", "-"),
    ]  # fmt: skip
    assert requests[0]["request_id"] == "mine-1"
    assert edge.meter.admitted == 1
    assert 'carrel_requests_total{route="/v1/chat/completions",status="200",tenant="acme"} 1.0' in (
        edge.services.metrics.render().decode()
    )


async def test_failed_attempts_are_counted_once(tmp_path: Path) -> None:
    async with running_edge(tmp_path, limits=Limits(failed_attempts=3)) as edge, connected(edge) as client:
        replies = await client.ask(*[post(token=token_of("acme", "9"))] * 4)
        assert [reply.status for reply in replies] == [401, 401, 401, 429]
        assert (await client.ask(post()))[0].status == 200


MODELS = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + GOOD.encode() + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("requests", "ways"),
    [
        ([post(), post(), post()], [SHORT] * 3),
        ([post(), MODELS, post()], [SHORT, SHORT]),
        ([post(more=ODD), post()], [ORDINARY, ORDINARY]),
        ([post(), post(more=ODD), post()], [SHORT, ORDINARY, ORDINARY]),
        ([post(b"x" * 300_000), post()], [SHORT]),
        ([post(), post(chat_body("hi")), post()], [SHORT, SHORT]),
    ],
)
async def test_one_after_the_other_on_one_connection(edge: Edge, requests: Sequence[bytes], ways: list[str]) -> None:
    async with connected(edge) as client:
        replies = [(await client.ask(request))[0] for request in requests]
    assert edge.relay.callers == ways
    assert all(reply.whole for reply in replies)


@pytest.mark.parametrize("size", [1, 7, 64, 150, 4096])
async def test_all_at_once_and_in_pieces(edge: Edge, size: int) -> None:
    """Whatever the borders of the pieces, every request has its own answer, in order."""
    bodies = [chat_body("x" * n, model="vendor-large") for n in (1, 500, 20)]
    data = b"".join([post(bodies[0]), MODELS, post(bodies[1]), post(bodies[2], more=ODD), MODELS])
    async with connected(edge) as client:
        for at in range(0, len(data), size):
            client.writer.write(data[at : at + size])
            await client.writer.drain()
            await asyncio.sleep(0)
        replies = [await client.reply() for _ in range(5)]
    assert [reply.status for reply in replies] == [200] * 5
    assert [json.loads(reply.body).get("size") for reply in replies] == [
        len(bodies[0]), None, len(bodies[1]), len(bodies[2]), None,
    ]  # fmt: skip
    assert edge.relay.bodies == bodies


async def test_a_body_in_a_packet_of_its_own_takes_the_short_way(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "GATHER_SECONDS", PATIENCE)
    request = post()
    at = request.index(b"\r\n\r\n") + 4
    async with connected(edge) as client:
        for _ in range(2):
            client.writer.write(request[:at])
            await client.writer.drain()
            await asyncio.sleep(0.05)
            client.writer.write(request[at:])
            assert (await client.reply()).status == 200
    assert edge.relay.callers == [SHORT, SHORT]


async def test_a_body_that_does_not_come_is_the_ordinary_ways(tmp_path: Path) -> None:
    limits = Limits(body_stall_seconds=0.2)
    async with running_edge(tmp_path, limits=limits) as edge, connected(edge) as client:
        client.writer.write(post()[:-5])
        reply = await client.reply()
        assert (reply.status, reply.json()["error"]["code"]) == (408, "request_timeout")
        assert await client.reader.read() == b""


async def test_what_comes_behind_waits_and_is_bounded(edge: Edge) -> None:
    going, go_on = asyncio.Event(), asyncio.Event()
    whole = edge.relay.pass_on

    async def slow(*args: Any, **options: Any) -> Answer:
        going.set()
        await go_on.wait()
        return await whole(*args, **options)

    edge.relay.pass_on = slow  # type: ignore[method-assign] # a vendor that takes its time
    big = chat_body("y" * 60_000, model="vendor-large")
    async with connected(edge) as client:
        client.writer.write(post())
        await going.wait()
        client.writer.write(post(big) * 30)
        await asyncio.sleep(0.1)
        assert not edge.relay.bodies
        go_on.set()
        replies = [await client.reply() for _ in range(31)]
    assert [json.loads(reply.body)["size"] for reply in replies] == [len(VENDOR)] + [len(big)] * 30


async def test_a_caller_that_goes_away_ends_its_call(edge: Edge) -> None:
    going, ended = asyncio.Event(), asyncio.Event()

    async def endless(caller: Caller, *args: Any, **options: Any) -> Answer:
        going.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()
        raise CarrelError("unreachable")

    edge.relay.pass_on = endless  # type: ignore[method-assign] # a vendor that never answers
    with capture_logs() as lines:
        async with connected(edge) as client:
            client.writer.write(post())
            await going.wait()
        await soon(ended.wait())
        await eventually(lambda: any(line["event"] == "request" for line in lines))
    assert [line["status"] for line in lines if line["event"] == "request"] == [499]


async def test_a_fault_behind_the_first_byte_cuts_the_answer(edge: Edge) -> None:
    async def breaks(caller: Caller, *args: Any, **options: Any) -> Answer:
        answer = Answer(caller, status=200, content_type="text/event-stream", request_id=args[2])
        answer.begin()
        await answer.send(b"data: 1\n\n")
        raise ZeroDivisionError

    edge.relay.pass_on = breaks  # type: ignore[method-assign] # a fault on purpose
    with capture_logs():
        async with connected(edge) as client:
            [reply] = await client.ask(post())
            assert (reply.status, reply.whole, reply.body) == (200, False, b"data: 1\n\n")
            assert await client.reader.read() == b""


async def streams_on(edge: Edge, client: Client) -> None:
    """Begin a stream that has no end."""

    async def endless(caller: Caller, *args: Any, **options: Any) -> Answer:
        answer = Answer(caller, status=200, content_type="text/event-stream", request_id=args[2])
        answer.begin()
        await answer.send(b"data: 1\n\n")
        await asyncio.get_running_loop().create_future()
        return answer

    edge.relay.pass_on = endless  # type: ignore[method-assign] # a vendor that is never done
    client.writer.write(post())
    async with asyncio.timeout(PATIENCE):
        await client.reader.readuntil(b"data: 1\n\n\r\n")


async def test_a_stream_ends_with_its_token_and_lives_on_a_good_one(edge: Edge) -> None:
    edge.tokens.add(token_of("acme", "3"), "acme")
    with capture_logs() as lines:
        async with connected(edge) as revoked, connected(edge) as kept:
            await streams_on(edge, revoked)
            kept.writer.write(post(token=token_of("acme", "3")))
            edge.tokens.end(GOOD)
            async with asyncio.timeout(PATIENCE):
                assert await revoked.reader.read() == b""
                await kept.reader.readuntil(b"data: 1\n\n\r\n")
            assert not kept.reader.at_eof()
            await eventually(lambda: any(line["event"] == "request" for line in lines))
    assert [line.get("ended") for line in lines if line["event"] == "request"][:1] == ["revoked"]


async def test_a_reader_that_stalls_is_cut_off(tmp_path: Path) -> None:
    limits = Limits(recheck_seconds=0.05, write_stall_seconds=0.2)
    async with running_edge(tmp_path, limits=limits) as edge, connected(edge) as client:
        ended = asyncio.Event()

        async def floods(caller: Caller, *args: Any, **options: Any) -> Answer:
            answer = Answer(caller, status=200, content_type="text/event-stream", request_id=args[2])
            answer.begin()
            try:
                for _ in range(4096):
                    await answer.send(b"x" * 65536)
            finally:
                ended.set()
            return answer

        edge.relay.pass_on = floods  # type: ignore[method-assign] # a vendor that has much to say
        with capture_logs() as lines:
            client.writer.write(post())
            async with asyncio.timeout(PATIENCE):
                await ended.wait()
        assert "connection cut: its reader stalled" in [line["event"] for line in lines]


async def test_a_drain_takes_nothing_new(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "GATHER_SECONDS", PATIENCE)
    request = post()
    async with connected(edge) as client:
        client.writer.write(request)
        assert (await client.reply()).status == 200
        client.writer.write(request[:-5])
        await eventually(lambda: any(getattr(one, "gathering", False) for one in edge.server._connections()))
        edge.server.begin_drain()
        client.writer.write(request[-5:])
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"]) == (503, "close")
    assert len(edge.relay.bodies) == 1
