"""Security 1.1 to 1.4 and 1.6 at the edge: tokens, against a real listener."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from carrel.http.services import Limits
from tests.fakes.clock import FakeClock
from tests.fakes.edge import ADMIN_KEY, Edge, bearer, chat_body, running_edge, token_of
from tests.fakes.patience import eventually, soon

TOKEN = token_of("acme")
ENDLESS = chat_body("wait: 3600", stream=True)


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path, limits=Limits(recheck_seconds=0.2)) as running:
        yield running


async def ask(edge: Edge, head: bytes, body: bytes = b"") -> bytes:
    """The raw answer to a raw request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
    try:
        writer.write(head + body)
        return await soon(reader.read(1_000_000))
    finally:
        writer.close()


def listing(*headers: bytes) -> bytes:
    return b"\r\n".join((b"GET /v1/models HTTP/1.1", b"Host: localhost", b"Connection: close", *headers, b"", b""))


def parts(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers but for those that are each request's own, and body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    own = {"date", "x-request-id"}
    pairs = (line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), {k.lower(): v for k, v in pairs if k.lower() not in own}, body


async def test_S1_01_every_part_of_a_token_must_match(edge: Edge) -> None:
    for wrong in (TOKEN[:-1], TOKEN + "1", TOKEN[:-1] + "2", TOKEN.replace("acme", "acm"), TOKEN.upper(), "tk_acme_"):
        assert parts(await ask(edge, listing(b"Authorization: Bearer " + wrong.encode())))[0] == 401, wrong
    assert parts(await ask(edge, listing(b"Authorization: Bearer " + TOKEN.encode())))[0] == 200


async def test_S1_02_what_a_caller_says_of_itself_is_not_believed(edge: Edge) -> None:
    claims = (
        b"X-Tenant: bravo", b"X-Carrel-Tenant: bravo", b"X-Forwarded-User: bravo", b"X-Scopes: admin",
        b"Cookie: tenant=bravo; token=" + token_of("bravo").encode(),
    )  # fmt: skip
    edge.tokens.add(token_of("acme", "6"), "acme", scopes=("rpc",))
    status, _, _ = parts(await ask(edge, listing(b"Authorization: Bearer " + token_of("acme", "6").encode(), *claims)))
    assert status == 403
    body = b'{"jsonrpc":"2.0","id":1,"method":"tenants.get"}'
    head = listing(
        b"Authorization: Bearer " + TOKEN.encode(), b"Content-Length: " + str(len(body)).encode(), *claims
    ).replace(b"GET /v1/models", b"POST /rpc?tenant=bravo&tenantId=bravo")
    status, _, answer = parts(await ask(edge, head, body))
    assert status == 200
    assert b'"tenantId": "acme"' in answer


async def test_S1_02_an_expired_token_is_unknown(edge: Edge) -> None:
    past, future = (datetime.now(UTC) + timedelta(seconds=s) for s in (-1, 60))
    edge.tokens.add(token_of("acme", "7"), "acme", expires=past)
    edge.tokens.add(token_of("acme", "8"), "acme", expires=future)
    assert parts(await ask(edge, listing(b"Authorization: Bearer " + token_of("acme", "7").encode())))[0] == 401
    assert parts(await ask(edge, listing(b"Authorization: Bearer " + token_of("acme", "8").encode())))[0] == 200


def test_S1_03_credentials_are_asked_again_within_a_second() -> None:
    assert Limits().recheck_seconds < 0.5


async def test_S1_03_revocation_ends_a_live_stream(edge: Edge) -> None:
    async with (
        aiohttp.ClientSession() as client,
        client.post(edge.url + "/v1/chat/completions", data=ENDLESS, headers=bearer(TOKEN)) as reply,
    ):
        assert reply.status == 200
        await reply.content.readline()
        edge.tokens.end(TOKEN)
        with pytest.raises(aiohttp.ClientError):
            await soon(reply.content.read())
    assert edge.agents.cancelled == 1
    assert parts(await ask(edge, listing(b"Authorization: Bearer " + TOKEN.encode())))[0] == 401


async def test_S1_03_a_stream_on_a_good_token_lives_on(edge: Edge) -> None:
    async with (
        aiohttp.ClientSession() as client,
        client.post(
            edge.url + "/v1/chat/completions", data=chat_body("wait: 1.2", stream=True), headers=bearer(TOKEN)
        ) as reply,
    ):
        assert (await reply.text()).endswith("data: [DONE]\n\n")


async def test_S1_03_suspension_ends_a_live_stream_and_names_itself_next(edge: Edge) -> None:
    tenant = edge.directory.current.tenants[edge.tokens.verify(TOKEN, datetime.now(UTC)).tenant]  # type: ignore[union-attr] # it is known
    async with (
        aiohttp.ClientSession() as client,
        client.post(edge.url + "/v1/chat/completions", data=ENDLESS, headers=bearer(TOKEN)) as reply,
    ):
        await reply.content.readline()
        edge.publish(replace(tenant, suspended=True))
        with pytest.raises(aiohttp.ClientError):
            await soon(reply.content.read())
    status, _, answer = parts(await ask(edge, listing(b"Authorization: Bearer " + TOKEN.encode())))
    assert (status, b"tenant_suspended" in answer) == (403, True)


MALFORMED = {
    "missing": [],
    "unknown": [b"Authorization: Bearer tk_acme_" + b"0" * 32],
    "unknown tenant": [b"Authorization: Bearer tk_nobody_" + b"0" * 32],
    "no scheme": [b"Authorization: " + TOKEN.encode()],
    "basic": [b"Authorization: Basic YTpi"],
    "empty": [b"Authorization: Bearer "],
    "duplicate": [b"Authorization: Bearer " + TOKEN.encode()] * 2,
    "two in one": [b"Authorization: Bearer " + TOKEN.encode() + b", Bearer " + TOKEN.encode()],
    "4 KiB": [b"Authorization: Bearer " + b"a" * 4096],
    "sql": [b"Authorization: Bearer ' OR '1'='1' --"],
    "path": [b"Authorization: Bearer tk_../../etc/passwd_" + b"0" * 32],
    "latin-1": [b"Authorization: Bearer tk_acme_\xe9"],
    "admin shaped": [b"Authorization: Bearer ak_ops_" + b"0" * 32],
    "in the query": [],
}


async def test_S1_04_every_way_of_being_wrong_has_the_same_answer(edge: Edge) -> None:
    answers = {}
    for name, headers in MALFORMED.items():
        head = listing(*headers)
        if name == "in the query":
            head = head.replace(b"/v1/models", b"/v1/models?token=" + TOKEN.encode())
        answers[name] = parts(await ask(edge, head))
    expected = answers["missing"]
    assert expected[0] == 401
    for name, answer in answers.items():
        assert answer == expected, name
    assert parts(await ask(edge, listing(b"Authorization: Bearer " + TOKEN.encode())))[0] == 200


async def test_S1_04_what_the_parser_refuses_is_400_and_the_connection_closes(edge: Edge) -> None:
    for name, header in {
        "64 KiB": b"Authorization: Bearer " + b"a" * 65536,
        "NUL": b"Authorization: Bearer tk_acme_\x00" + b"1" * 31,
        "bare CR": b"Authorization: Bearer tk_acme_\r" + b"1" * 31,
    }.items():
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
        writer.write(listing(header).replace(b"Connection: close", b"Connection: keep-alive"))
        answer = await soon(reader.read())
        assert parts(answer)[0] == 400, name
        assert TOKEN.encode() not in answer
        writer.close()


async def test_S1_06_tokens_are_in_no_log_answer_or_metric(edge: Edge) -> None:
    wrong = "tk_acme_" + "9" * 32
    with capture_logs() as lines:
        said = [
            await ask(edge, listing(b"Authorization: Bearer " + secret.encode()).replace(b"/v1/models", path))
            for secret in (TOKEN, wrong, ADMIN_KEY)
            for path in (b"/v1/models", b"/nope", b"/v1/models?key=" + secret.encode(), b"/rpc")
        ]
        await eventually(lambda: sum(line["event"] == "request" for line in lines) == len(said))
    written = str(lines) + edge.services.metrics.render().decode() + "".join(map(repr, said))
    assert not re.search(r"(?:1{32}|9{32}|a{32})", written)
    assert "tk_acme_11111111" in str(lines)


async def test_S1_06_failed_attempts_are_limited_by_address_and_good_tokens_are_not(tmp_path: Path) -> None:
    clock = FakeClock(datetime.now(UTC))
    async with running_edge(tmp_path, limits=Limits(failed_attempts=5, failed_window_seconds=60), clock=clock) as edge:
        wrong = listing(b"Authorization: Bearer tk_acme_" + b"0" * 32)
        right = listing(b"Authorization: Bearer " + TOKEN.encode())
        assert [parts(await ask(edge, wrong))[0] for _ in range(7)] == [401] * 5 + [429] * 2
        status, headers, _ = parts(await ask(edge, wrong))
        assert (status, headers["retry-after"]) == (429, "60")
        assert parts(await ask(edge, right))[0] == 200
        clock.advance(59.9)
        assert parts(await ask(edge, wrong))[0] == 429
        clock.advance(0.2)
        assert parts(await ask(edge, wrong))[0] == 401
