"""What holds for every dialect."""

import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from carrel.declare.base import SecretRef
from carrel.declare.tenant import TenantProvider
from carrel.relay.dialects import chat, embeddings, messages, responses
from carrel.relay.dialects.protocol import CallFields, OwnKeyOnly
from tests.fakes.vendor.server import FakeVendor
from tests.unit.relay.harness import bed

DIALECTS: list[type[CallFields]] = [
    chat.ChatFields, responses.ResponsesFields, embeddings.EmbeddingsFields, messages.MessagesFields,
    messages.CountFields,
]  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_model_may_have_another_name_with_the_vendor_and_the_rest_stays_as_it_came(dialect: type[CallFields]) -> None:
    assert not inspect.isabstract(dialect)
    sent = dialect(model="ours").outgoing(
        b'{ "x" : 1.50, "model": "ours" , "u":"\\u00e9"}', "theirs", asks_usage=False, byo=True
    )  # fmt: skip
    assert sent.body == b'{ "x" : 1.50, "model": "theirs" , "u":"\\u00e9"}'
    same = b'{"model":"ours"}'
    assert dialect(model="ours").outgoing(same, None, asks_usage=False, byo=True).body is same


def test_no_two_have_the_same_place() -> None:
    assert len({(dialect.kind, dialect.path) for dialect in DIALECTS}) == len(DIALECTS)


def test_a_refusal_names_the_field_and_the_mend() -> None:
    refusal = OwnKeyOnly("tools[0].type", "leave it out.").refusal()
    assert (refusal.param, refusal.details["reason"]) == ("tools[0].type", "own_key_only")
    assert "leave it out" in refusal.message


@pytest.fixture
async def vendor() -> AsyncIterator[FakeVendor]:
    async with FakeVendor() as running:
        yield running


ASK: dict[str, Any] = {
    "model": "fake-ok", "input": "hello", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]
}  # fmt: skip


async def test_what_is_stored_is_reached_with_the_tenants_own_key_and_with_no_other(
    vendor: FakeVendor, tmp_path: Path
) -> None:
    own = {"vendor": TenantProvider(api_key=SecretRef(secret="own-key"))}
    body = {"model": "fake-ok", "input": "more", "previous_response_id": "resp_1"}
    async with bed(tmp_path / "shared", vendor.openai_url) as b:
        reply = await b.ask(body, path="/v1/responses")
        assert (reply.status, reply.json()["reason"]) == (400, "own_key_only")
        assert vendor.received == []
        assert (await b.ask({"model": "fake-ok", "input": "x"}, path="/v1/responses")).status == 200
        assert vendor.last.body["store"] is False
    async with bed(tmp_path / "own", vendor.openai_url, providers=own) as b:
        assert (await b.ask(body, path="/v1/responses")).status == 200
        assert vendor.last.body == body


async def test_a_message_that_breaks_off_has_its_input_as_said_and_its_output_estimated(
    vendor: FakeVendor, tmp_path: Path
) -> None:
    async with bed(tmp_path, vendor.url, provider={"kind": "anthropic"}) as b:
        reply = await b.ask({**ASK, "model": "fake-cut", "stream": True}, path="/v1/messages")
        assert not reply.whole
        assert b"event: error" in reply.body
        row = await b.row()
        assert (row.outcome, row.input_tokens, row.estimated) == ("cut", 100, True)
        assert row.output_tokens > 1
        assert vendor.last.headers["anthropic-version"] == "2023-06-01"


async def test_counting_leaves_no_row_and_embeddings_one_without_output(vendor: FakeVendor, tmp_path: Path) -> None:
    async with bed(tmp_path / "a", vendor.url, provider={"kind": "anthropic"}) as b:
        assert (await b.ask(ASK, path="/v1/messages/count_tokens")).json()["input_tokens"] > 0
        assert await b.rows() == []
    async with bed(tmp_path / "b", vendor.openai_url) as b:
        assert (await b.ask({"model": "fake-usage-none", "input": "hello"}, path="/v1/embeddings")).status == 200
        row = await b.row()
        assert (row.output_tokens, row.estimated) == (0, True)
        assert row.input_tokens > 0
