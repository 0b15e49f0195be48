"""What `test_relay` does not reach: idle connections that the other side closed, and vendors' refusals in detail."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fakes.patience import eventually
from tests.unit.relay.harness import bed

ASK = {"model": "fake-ok", "messages": []}
USAGE = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}'


@asynccontextmanager
async def upstream(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Gives each request the next answer, then closes if it says so; an empty one closes the connection unanswered."""
    seen: list[bytes] = []
    left = list(answers)
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
                seen.append(await reader.readexactly(length))
                answer = left.pop(0)
                if not answer:
                    break
                writer.write(answer)
                if b"Connection: close" in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError, IndexError):
            pass
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1", seen
    finally:
        listener.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.02)


def answer(body: bytes, status: int = 200, kind: str = "application/json", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def test_an_idle_connection_that_was_closed_costs_no_retry(tmp_path: Path) -> None:
    async with (
        upstream(answer(USAGE), b"", answer(USAGE)) as (url, seen),
        bed(tmp_path, url, provider={"max_retries": 0}) as b,
    ):
        assert (await b.ask(ASK)).status == 200
        assert (await b.ask(ASK)).status == 200
        assert len(seen) == 3
        assert [row.outcome for row in await b.rows()] == ["ok", "ok"]


async def test_a_fresh_connection_that_is_lost_does(tmp_path: Path) -> None:
    async with upstream(b"") as (url, seen), bed(tmp_path, url, provider={"max_retries": 0}) as b:
        reply = await b.ask(ASK)
        assert (reply.status, reply.json()["code"]) == (502, "upstream_error")
        assert len(seen) == 1


async def test_a_vendors_reason_is_passed_on_and_its_key_is_not(tmp_path: Path) -> None:
    said = {
        "error": {
            "message": "too long for key sk-operator-0123456789",
            "type": "t",
            "code": "context_length",
            "param": 3,
        }
    }
    async with upstream(answer(json.dumps(said).encode(), 400)) as (url, _), bed(tmp_path, url) as b:
        reply = (await b.ask(ASK)).json()
        assert reply["upstream_code"] == "context_length"
        assert "too long" in reply["message"]
        assert "sk-operator" not in reply["message"]
        assert "upstream_param" not in reply


@pytest.mark.parametrize("bad", [
    answer(USAGE, more="Content-Encoding: gzip\r\n"), answer(b"moved", 302),
    b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
])  # fmt: skip
async def test_answers_that_cannot_be_passed_on(tmp_path: Path, bad: bytes) -> None:
    async with upstream(bad) as (url, _), bed(tmp_path, url, provider={"max_retries": 0}) as b:
        assert (await b.ask(ASK)).status == 502
        assert [row.outcome for row in await b.rows()] == ["error"]


async def test_a_whole_answer_that_breaks_off_is_an_error_and_a_cut_row(tmp_path: Path) -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + USAGE
    async with upstream(half, b"") as (url, seen), bed(tmp_path, url) as b:
        task = asyncio.create_task(b.ask(ASK))
        await eventually(lambda: seen)
        await asyncio.sleep(0.1)
        assert not task.done()
        await b.relay.close()
        assert (await task).status == 502
        assert len(seen) == 1
        [row] = await b.rows()
        assert (row.outcome, row.estimated) == ("cut", True)


async def test_an_answer_that_ends_with_its_connection(tmp_path: Path) -> None:
    unframed = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + USAGE
    async with upstream(unframed, unframed) as (url, _), bed(tmp_path, url) as b:
        for _ in range(2):
            assert (await b.ask(ASK)).body == USAGE
        assert [row.input_tokens for row in await b.rows()] == [3, 3]


async def test_an_error_with_status_200_is_an_error_in_the_ledger(tmp_path: Path) -> None:
    async with upstream(answer(b'{"error":{"message":"no"}}')) as (url, _), bed(tmp_path, url) as b:
        assert (await b.ask(ASK)).status == 200
        assert [row.outcome for row in await b.rows()] == ["error"]


async def test_a_stream_that_ends_early_in_good_order_is_cut(tmp_path: Path) -> None:
    events = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
    async with upstream(answer(events, kind="text/event-stream")) as (url, _), bed(tmp_path, url) as b:
        reply = await b.ask({**ASK, "stream": True})
        assert not reply.whole
        assert b'"code": "upstream_error"' in reply.body
        assert [row.outcome for row in await b.rows()] == ["cut"]


async def test_a_stream_without_done_that_finished_is_whole(tmp_path: Path) -> None:
    events = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    async with upstream(answer(events, kind="text/event-stream")) as (url, _), bed(tmp_path, url) as b:
        reply = await b.ask({**ASK, "stream": True})
        assert reply.whole
        assert reply.body == events


SAID = "Words that somebody made, and that are not free of charge."
UNSAID: list[object] = [
    {"prompt_tokens": -5, "completion_tokens": -6}, {"prompt_tokens": None, "completion_tokens": None},
    {"prompt_tokens": "100", "completion_tokens": "50"}, {"prompt_tokens": 0, "completion_tokens": 0},
    {"total_tokens": 150}, {"prompt_tokens": 9}, {"completion_tokens": 9},
]  # fmt: skip


@pytest.mark.parametrize("usage", UNSAID)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_usage_that_says_nothing_of_the_prompt_or_the_answer_makes_nothing_free(
    tmp_path: Path, usage: object, stream: bool
) -> None:
    if stream:
        events = [{"choices": [{"delta": {"content": SAID}, "finish_reason": "stop"}]}, {"choices": [], "usage": usage}]
        body = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"
        given = answer(body, kind="text/event-stream")
    else:
        given = answer(json.dumps({"choices": [{"message": {"content": SAID}}], "usage": usage}).encode())
    ask = {"model": "fake-ok", "messages": [{"role": "user", "content": "hello " * 20}], "stream": stream}
    async with upstream(given) as (url, _), bed(tmp_path, url) as b:
        assert (await b.ask(ask)).status == 200
        [row] = await b.rows()
        assert (row.outcome, row.estimated) == ("ok", True)
        assert min(row.input_tokens, row.output_tokens) >= 9


async def test_a_usage_of_no_answer_is_taken_as_it_is(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 0}
    given = answer(json.dumps({"choices": [{"message": {"content": ""}}], "usage": usage}).encode())
    async with upstream(given) as (url, _), bed(tmp_path, url) as b:
        await b.ask(ASK)
        [row] = await b.rows()
        assert (row.input_tokens, row.output_tokens, row.estimated) == (9, 0, False)


async def test_a_vendor_that_counts_what_no_call_can_use_bills_the_worst_case(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 10**30, "completion_tokens": 10**18}
    given = answer(json.dumps({"choices": [{"message": {"content": SAID}}], "usage": usage}).encode())
    async with upstream(given) as (url, _), bed(tmp_path, url) as b:
        await b.ask(ASK | {"max_tokens": 40})
        [row] = await b.rows()
        assert (row.output_tokens, row.estimated) == (40, True)
        assert 0 < row.input_tokens < 2000
