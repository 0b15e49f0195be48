import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from carrel.declare.base import SecretRef
from carrel.declare.quotas import Quotas
from carrel.declare.tenant import TenantProvider
from tests.fakes.patience import eventually, soon
from tests.fakes.vendor.scripts import FakeCall, Script
from tests.fakes.vendor.server import FakeVendor
from tests.unit.relay.harness import CHAT, KEY, bed, read_reply


@pytest.fixture
async def vendor() -> AsyncIterator[FakeVendor]:
    async with FakeVendor() as running:
        yield running


def chat(model: str = "fake-ok", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


def events(body: bytes) -> list[str]:
    return [event.removeprefix("data: ") for event in body.decode().split("\n\n") if event]


async def test_a_whole_answer_comes_as_it_is_and_leaves_one_row(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url) as b:
        body = json.dumps(chat(seed=7)).encode()
        reply = await b.ask(body)
        assert reply.status == 200
        assert reply.headers["content-type"].startswith("application/json")
        assert reply.headers["x-request-id"].startswith("req_")
        assert reply.headers["x-provider-request-id"] == "vendor_req_1"
        assert reply.json()["choices"][0]["message"]["content"] == "Hello from the fake vendor."
        assert vendor.last.raw == body
        row = await b.row()
        assert (row.model, row.outcome, row.input_tokens, row.output_tokens) == ("fake-ok", "ok", 100, 20)
        assert row.provider_request_id == "vendor_req_1"
        assert row.request_id == reply.headers["x-request-id"]
        assert row.cost_usd == Decimal("0.000175")
        assert not row.estimated


async def test_nothing_of_the_caller_but_the_body_goes_upstream(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url) as b:
        await b.ask(chat(user="user-7"))
        sent = vendor.last
        assert set(sent.headers) == {
            "host", "content-type", "accept", "accept-encoding", "user-agent", "authorization", "content-length",
        }  # fmt: skip
        assert sent.headers["authorization"] == f"Bearer {KEY}"
        assert sent.body["user"] == "user-7"
        assert b"acme" not in sent.raw
        assert "acme" not in str(sent.headers)


async def test_the_models_other_name_is_put_into_the_bytes(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url) as b:
        reply = await b.ask(
            b'{ "messages" : [{"role":"user","content":"say \\"model\\": x"}],  "model" :"alias", "n":1}'
        )
        assert reply.status == 200
        assert vendor.last.raw == (
            b'{ "messages" : [{"role":"user","content":"say \\"model\\": x"}],  "model" :"fake-ok", "n":1}'
        )
        assert (await b.row()).model == "alias"


async def test_a_stream_comes_whole_without_the_usage_that_we_asked_for(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url) as b:
        reply = await b.ask(chat(stream=True))
        assert reply.whole
        assert reply.headers["content-type"].startswith("text/event-stream")
        said = events(reply.body)
        assert said[-1] == "[DONE]"
        assert vendor.last.body["stream_options"] == {"include_usage": True}
        assert not any('"usage"' in event for event in said)
        chunks = [json.loads(event) for event in said[:-1]]
        assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "Hello from the fake vendor."
        row = await b.row()
        assert (row.input_tokens, row.output_tokens, row.outcome, row.estimated) == (100, 20, "ok", False)


async def test_usage_that_the_caller_asked_for_is_passed_on(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url) as b:
        body = json.dumps(chat(stream=True, stream_options={"include_usage": True})).encode()
        reply = await b.ask(body)
        assert vendor.last.raw == body
        assert json.loads(events(reply.body)[-2])["usage"]["prompt_tokens"] == 100


@pytest.mark.parametrize("model", ["fake-usage-choice", "fake-usage-groq", "fake-usage-finish", "fake-cached"])
async def test_usage_is_found_wherever_vendors_put_it(vendor: FakeVendor, tmp_path: Path, model: str) -> None:
    async with bed(tmp_path, vendor.openai_url) as b:
        await b.ask(chat(model, stream=True))
        row = await b.row()
        assert (row.input_tokens + row.cache_read_tokens, row.output_tokens, row.estimated) == (100, 20, False)
        assert row.cache_read_tokens == (60 if model == "fake-cached" else 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_tool_calls_are_counted(vendor: FakeVendor, tmp_path: Path, *, stream: bool) -> None:
    vendor.script(
        "scripted", Script(text="", calls=(FakeCall("a", "{}", "call_a"), FakeCall("b", '{"x": 1}', "call_b")))
    )
    async with bed(tmp_path, vendor.openai_url) as b:
        await b.ask(chat("scripted", stream=stream))
        assert (await b.row()).tool_calls == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_without_usage_is_estimated(vendor: FakeVendor, tmp_path: Path, *, stream: bool) -> None:
    async with bed(tmp_path, vendor.openai_url) as b:
        reply = await b.ask(chat("fake-usage-none", stream=stream))
        assert reply.status == 200
        row = await b.row()
        assert row.estimated
        assert row.outcome == "ok"
        assert row.input_tokens > 0
        assert row.output_tokens > 0


@pytest.mark.parametrize("model", ["fake-limited", "fake-flaky", "fake-dropped"])
async def test_what_may_help_is_tried_again_and_is_one_row(vendor: FakeVendor, tmp_path: Path, model: str) -> None:
    async with bed(tmp_path, vendor.openai_url) as b:
        assert (await b.ask(chat(model))).status == 200
        assert len(vendor.received) == 2
        assert (await b.row()).outcome == "ok"


async def test_nothing_is_tried_again_after_the_first_byte(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url) as b:
        reply = await b.ask(chat("fake-cut", stream=True))
        assert len(vendor.received) == 1
        assert not reply.whole
        said = events(reply.body)
        assert "[DONE]" not in said
        error = json.loads(said[-1])["error"]
        assert error["code"] == "upstream_error"
        row = await b.row()
        assert (row.outcome, row.estimated) == ("cut", True)
        assert row.output_tokens >= 1


async def test_retries_end(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url, provider={"max_retries": 1}) as b:
        reply = await b.ask(chat("fake-down"))
        assert reply.status == 502
        assert len(vendor.received) == 2
        row = await b.row()
        assert (row.outcome, row.input_tokens, row.cost_usd) == ("error", 0, Decimal(0))


async def test_the_vendors_refusal_of_our_key_is_not_the_callers(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url) as b:
        reply = await b.ask(chat("fake-refused"))
        assert reply.status == 502
        assert reply.json()["code"] == "upstream_auth"
        assert b"sk-wrong" not in reply.body
        assert KEY.encode() not in reply.body


async def test_a_tenants_own_key_is_used_and_marked(vendor: FakeVendor, tmp_path: Path) -> None:
    own = {"vendor": TenantProvider(api_key=SecretRef(secret="own-key"))}
    async with bed(tmp_path, vendor.openai_url, providers=own) as b:
        assert (await b.ask(chat())).status == 200
        assert vendor.last.headers["authorization"] == "Bearer sk-own-9876543210"
        row = await b.row()
        assert row.byo
        assert row.cost_usd == 0
        assert row.input_tokens == 100


async def test_a_stalled_stream_is_cut(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url, provider={"first_byte_seconds": 2}) as b:
        reply = await b.ask(chat("fake-stalled-later", stream=True))
        assert not reply.whole
        assert json.loads(events(reply.body)[-1])["error"]["code"] == "upstream_timeout"
        assert (await b.row()).outcome == "cut"


async def test_an_upstream_that_does_not_answer_is_an_error(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url, provider={"first_byte_seconds": 1}) as b:
        reply = await b.ask(chat("fake-stalled", stream=True))
        assert reply.status == 502
        assert reply.json()["code"] == "upstream_timeout"
        assert len(vendor.received) == 1
        assert (await b.row()).outcome in ("error", "cut")


async def test_the_deadline_of_a_call_cuts_it(vendor: FakeVendor, tmp_path: Path) -> None:
    vendor.script("scripted", Script(text="x" * 40_000, piece=4, delay=0.05))
    async with bed(tmp_path, vendor.openai_url, provider={"timeout_seconds": 2}) as b:
        reply = await b.ask(chat("scripted", stream=True))
        assert not reply.whole
        assert "deadline" in json.loads(events(reply.body)[-1])["error"]["message"]


async def test_a_caller_that_goes_away_ends_the_call_upstream(vendor: FakeVendor, tmp_path: Path) -> None:
    vendor.script("scripted", Script(text="x" * 4000, piece=4, delay=0.02))
    async with bed(tmp_path, vendor.openai_url) as b:
        reader, writer = await b.send(chat("scripted", stream=True))
        await reader.readuntil(b"data: ")
        writer.transport.abort()
        await soon(vendor.last.gone.wait())
        row = await b.row()
        assert (row.outcome, row.estimated) == ("cancelled", True)
        assert row.output_tokens >= 1


async def test_a_caller_that_goes_away_before_the_answer(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url) as b:
        _, writer = await b.send(chat("fake-stalled", stream=True))
        await eventually(lambda: vendor.received)
        writer.transport.abort()
        await soon(vendor.last.gone.wait())
        assert (await b.row()).outcome == "cancelled"


async def test_a_caller_that_stops_reading_pauses_the_vendor(vendor: FakeVendor, tmp_path: Path) -> None:
    vendor.script("scripted", Script(text="0123456789abcdef" * (1 << 20), piece=1 << 16))
    async with bed(tmp_path, vendor.openai_url, stall_seconds=0.5) as b:
        _, writer = await b.send(chat("scripted", stream=True), limit=1024)
        row = await b.row()
        assert row.outcome == "cancelled"
        assert not vendor.last.answered.is_set() or vendor.last.gone.is_set()
        writer.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_long_answer_passes_whole(vendor: FakeVendor, tmp_path: Path, *, stream: bool) -> None:
    vendor.script("scripted", Script(text="0123456789abcdef" * (1 << 18), piece=1 << 15))
    async with bed(tmp_path, vendor.openai_url) as b:
        reply = await b.ask(chat("scripted", stream=stream))
        assert reply.whole
        assert len(reply.body) > 1 << 22
        if not stream:
            assert len(reply.json()["choices"][0]["message"]["content"]) == 1 << 22
        row = await b.row()
        assert (row.outcome, row.input_tokens, row.estimated) == ("ok", 100, False)


async def test_a_malformed_event_passes_as_it_came(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url) as b:
        reply = await b.ask(chat("fake-malformed", stream=True))
        assert reply.whole
        assert (await b.row()).input_tokens == 100


async def test_an_error_in_the_stream_is_an_error_in_the_ledger(vendor: FakeVendor, tmp_path: Path) -> None:
    vendor.script("scripted", Script(error_at=3))
    async with bed(tmp_path, vendor.openai_url) as b:
        reply = await b.ask(chat("scripted", stream=True))
        assert b"The server had an error." in reply.body
        assert (await b.row()).outcome == "error"


async def test_a_vendor_that_knows_no_stream_options_is_asked_without(vendor: FakeVendor, tmp_path: Path) -> None:
    vendor.script("scripted", Script(refuses=("stream_options",)))
    async with bed(tmp_path, vendor.openai_url) as b:
        for _ in range(2):
            reply = await b.ask(chat("scripted", stream=True))
            assert events(reply.body)[-1] == "[DONE]"
        assert len(vendor.received) == 3
        assert all(row.estimated for row in await b.rows())


async def test_http_1_0_is_answered_without_chunks(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url) as b:
        reply = await b.ask(chat(stream=True), version="1.0")
        assert "transfer-encoding" not in reply.headers
        assert events(reply.body)[-1] == "[DONE]"


async def test_a_connection_is_used_again_on_both_sides(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url) as b:
        data = json.dumps(chat()).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", b.port)
        for _ in range(3):
            writer.write(
                f"POST {CHAT} HTTP/1.1\r\nHost: g\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
            )  # fmt: skip
            assert (await read_reply(reader)).status == 200
        writer.close()
        assert len(await b.rows()) == 3


async def test_refusals_before_the_call_cost_nothing(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path, vendor.openai_url, quotas=Quotas(tokens_per_day=2000)) as b:
        for body, code in (
            (chat("nope"), "model_not_found"), (chat("unpriced"), "invalid_request"),
            (chat("elsewhere"), "invalid_request"), (chat(max_tokens=5000), "quota_exceeded"),
            (b'{"model":"fake-ok","model":"fake-cut","messages":[]}', "invalid_request"),
        ):  # fmt: skip
            reply = await b.ask(body)
            assert reply.json()["code"] == code
        assert not vendor.received
        assert not await b.rows()
        assert (await b.ask(chat(max_tokens=50))).status == 200


async def test_sound_is_served_where_it_has_rates_or_with_a_key_of_the_tenants_own(
    vendor: FakeVendor, tmp_path: Path
) -> None:
    ask = chat("fake-ok", modalities=["text", "audio"], audio={"voice": "x"})
    own = {"vendor": TenantProvider(api_key=SecretRef(secret="own-key"))}
    for served in (False, True):
        async with bed(tmp_path / str(served), vendor.openai_url, providers=own if served else {}) as b:
            reply = await b.ask(ask)
            assert (reply.status, len(await b.rows())) == ((200, 1) if served else (400, 0))
            if served:
                continue
            assert "no rates" in reply.json()["message"]
            hears = b.snapshot.gateway.models["fake-ok"].model_copy(update={"inputs": ("text", "audio")})
            b.snapshot.gateway.models["fake-ok"] = hears
            assert (await b.ask(ask)).status == 200


async def test_stored_sound_is_named_with_a_key_of_the_tenants_own_alone(vendor: FakeVendor, tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "hi", "audio": {"id": "audio_1"}}
    ask, plain = (chat("fake-ok", messages=[message]) for message in (said, {**said, "audio": None}))
    own = {"vendor": TenantProvider(api_key=SecretRef(secret="own-key"))}
    async with bed(tmp_path / "operators", vendor.openai_url) as b:
        hears = b.snapshot.gateway.models["fake-ok"].model_copy(update={"inputs": ("text", "audio")})
        b.snapshot.gateway.models["fake-ok"] = hears
        assert "messages[0].audio" in (await b.ask(ask)).json()["message"]
        assert not vendor.received
        assert (await b.ask(plain)).status == 200
    async with bed(tmp_path / "own", vendor.openai_url, providers=own) as b:
        assert (await b.ask(ask)).status == 200
