"""What a vendor says it served a call at is what the call is priced by, whole and streamed, in each dialect."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from carrel.declare.base import SecretRef
from carrel.declare.rate_card import PromptRates, Rates, TokenCounts
from carrel.declare.tenant import TenantProvider
from carrel.relay.dialects.chat import ChatFields
from carrel.relay.observe import tier_in_ends
from tests.fakes.vendor.scripts import Script
from tests.fakes.vendor.server import FakeVendor
from tests.unit.relay.harness import CHAT, Bed, bed

RATES = Rates(
    input=Decimal(1), output=Decimal(2), batch=PromptRates(input=Decimal("0.5"), output=Decimal(1)),
    priority=PromptRates(input=Decimal(2), output=Decimal(4)),
)  # fmt: skip
COSTS = {"standard": Decimal("0.000175"), "batch": Decimal("0.0000875"), "priority": Decimal("0.00035")}
OPENAI = (
    ("flex", "default", "standard"), ("flex", "flex", "batch"), ("flex", "", "batch"), ("auto", "priority", "priority"),
    ("auto", "flex", "batch"), (None, "default", "standard"), ("priority", "default", "standard"),
    ("priority", "priority", "priority"), ("flex", "a-word-of-its-own", "batch"),
)  # fmt: skip
ANTHROPIC = (("auto", "standard", "standard"), ("auto", "priority", "priority"), (None, "priority", "priority"))
ALL: list[tuple[str, str | None, str, str]] = [(path, *tiers) for path in (CHAT, "/v1/responses") for tiers in OPENAI]
ALL += [("/v1/messages", *tiers) for tiers in ANTHROPIC]


@pytest.fixture
async def vendor() -> AsyncIterator[FakeVendor]:
    async with FakeVendor() as running:
        yield running


def ask(path: str, asked: str | None, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "scripted", **({"service_tier": asked} if asked else {}), **more}
    if path == "/v1/responses":
        return body | {"input": "hello", "metadata": {"service_tier": "flex"}}
    return body | {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 50}


def running(tmp_path: Path, vendor: FakeVendor, path: str, rates: Rates = RATES, **more: Any) -> Any:
    if path == "/v1/messages":
        return bed(tmp_path, vendor.url, provider={"kind": "anthropic"}, rates=rates, **more)
    return bed(tmp_path, vendor.openai_url, rates=rates, **more)


async def charged(b: Bed) -> tuple[Decimal, bool]:
    row = await b.row()
    return row.cost_usd, row.estimated


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tiers", ALL, ids=str)
async def test_a_call_costs_what_the_tier_does_that_it_was_served_at(
    vendor: FakeVendor, tmp_path: Path, tiers: tuple[str, str | None, str, str], *, stream: bool
) -> None:
    path, asked, said, tier = tiers
    vendor.script("scripted", Script(served=said))
    async with running(tmp_path, vendor, path) as b:
        reply = await b.ask(ask(path, asked, stream=stream), path=path)
        assert reply.status == 200, reply.body
        assert await charged(b) == (COSTS[tier], False)


@pytest.mark.parametrize(("asked", "said", "factor"), [("flex", "default", 1), (None, "priority", 2), (None, "", 1)])
async def test_a_stream_that_breaks_off_has_said_its_tier(
    vendor: FakeVendor, tmp_path: Path, asked: str | None, said: str, factor: int
) -> None:
    vendor.script("scripted", Script(served=said, cut_at=3))
    async with running(tmp_path, vendor, CHAT) as b:
        await b.ask(ask(CHAT, asked, stream=True))
        row = await b.row()
        assert row.outcome == "cut"
        assert row.cost_usd == (row.input_tokens + 2 * row.output_tokens) * Decimal("0.00000125") * factor


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_the_tier_is_seen_in_whichever_chunk_it_is_and_however_they_come(where: int, *, together: bool) -> None:
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": "hi"}}]},
        {"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 50}},
        {"choices": [{"index": 0, "delta": {}}]},
    ]  # fmt: skip
    chunks[where]["service_tier"] = "default"
    events = [f"data: {text}\n\n".encode() for text in (*map(json.dumps, chunks), "[DONE]")]
    body = {"model": "m", "messages": [], "stream": True, "service_tier": "flex"}
    observer = ChatFields.read(json.dumps(body).encode()).observer(hide_usage=False)
    for piece in [b"".join(events)] if together else events:
        observer.feed(piece)
    assert observer.seen.counts == TokenCounts(input=100, output=50, served="standard")


@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
async def test_a_long_answer_has_its_tier_at_an_end(vendor: FakeVendor, tmp_path: Path, path: str) -> None:
    usage = {"prompt": 100, "completion": 20}
    vendor.script("scripted", Script(text="x" * (2 << 20), served="default", usage=usage))
    async with running(tmp_path, vendor, path) as b:
        await b.ask(ask(path, "flex"), path=path)
        assert await charged(b) == (COSTS["standard"], False)


def test_what_a_caller_has_said_back_makes_no_long_answer_cheaper() -> None:
    said, true = b'{"metadata":{"service_tier":"flex"}', b',"service_tier":"default"}'
    assert tier_in_ends(said, true, asked=None) == "standard"
    assert tier_in_ends(said, true, asked="batch") == "standard"
    assert tier_in_ends(said, b"}", asked=None) is None
    assert tier_in_ends(said, b"}", asked="batch") == "batch"
    assert tier_in_ends(b"", b'"service_tier": "priority"', asked="batch") == "priority"


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/messages"])
async def test_a_dearer_tier_is_asked_for_where_its_price_is_known_or_the_key_is_ones_own(
    vendor: FakeVendor, tmp_path: Path, path: str
) -> None:
    cheap = Rates(input=Decimal(1), output=Decimal(2))
    vendor.script("scripted", Script(served="priority"))
    async with running(tmp_path / "none", vendor, path, cheap) as b:
        refused = await b.ask(ask(path, "priority"), path=path)
        assert (refused.status, refused.json()["reason"]) == (400, "own_key_only")
        assert "service_tier" in refused.json()["message"]
        assert await b.rows() == []
    async with running(tmp_path / "priced", vendor, path) as b:
        assert (await b.ask(ask(path, "priority"), path=path)).status == 200
    own = {"vendor": TenantProvider(api_key=SecretRef(secret="own-key"))}
    async with running(tmp_path / "own", vendor, path, cheap, providers=own) as b:
        assert (await b.ask(ask(path, "priority"), path=path)).status == 200
