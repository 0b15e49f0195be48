"""One suite over every provider: what an adapter must do whatever its vendor's dialect."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from carrel.clock import SystemClock
from carrel.declare.gateway import ProviderConfig
from carrel.errors import UpstreamError, UpstreamTimeout
from carrel.providers.anthropic import AnthropicProvider
from carrel.providers.demo import DemoProvider
from carrel.providers.openai import OpenAIProvider
from carrel.providers.registry import Adapter
from carrel.secrets import Secret
from carrel.wire.conversation import (
    Finished,
    Image,
    Message,
    ModelRequest,
    ProviderEvent,
    Served,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from tests.fakes.patience import PATIENCE, eventually, soon
from tests.fakes.vendor import FakeCall, FakeVendor, Script

KEY = "sk-test-0123456789abcdef0123456789"
SHELL = ToolSpec("shell", "Run a command.", {"type": "object", "properties": {"command": {"type": "string"}}})
HTTP = ("anthropic", "openai")
every = pytest.mark.parametrize("kind", [*HTTP, "demo"])
http = pytest.mark.parametrize("kind", HTTP)


@dataclass
class Rig:
    """A vendor and a provider that talks to it."""

    vendor: FakeVendor
    provider: Adapter
    kind: str

    def limited(self, **config: float) -> Adapter:
        """The same provider with other limits; the caller closes it."""
        return make(self.kind, self.vendor, **config)


def make(kind: str, vendor: FakeVendor, **config: float) -> Adapter:
    if kind == "demo":
        return DemoProvider()
    settings = {"kind": kind, "timeout_seconds": PATIENCE, "first_byte_seconds": PATIENCE, **config}
    settings["base_url"] = vendor.url if kind == "anthropic" else vendor.openai_url
    made = AnthropicProvider if kind == "anthropic" else OpenAIProvider
    return made(kind, ProviderConfig.model_validate(settings), key=Secret(KEY), clock=SystemClock())


@pytest.fixture
async def rig(kind: str) -> AsyncIterator[Rig]:
    async with FakeVendor() as vendor:
        provider = make(kind, vendor)
        yield Rig(vendor, provider, kind)
        await provider.close()


def ask(model: str = "fake-ok", text: str = "run: echo hi", **fields: object) -> ModelRequest:
    request = ModelRequest(model, (Message("user", (Text(text),)),), system="Be brief.", tools=(SHELL,))
    return replace(request, **fields)  # type: ignore[arg-type] # each test names real fields


async def collect(provider: Adapter, request: ModelRequest) -> tuple[list[ProviderEvent], Finished]:
    events = [event async for event in provider.stream(request)]
    last = events[-1]
    assert isinstance(last, Finished)
    assert sum(isinstance(e, Finished) for e in events) == 1
    return events, last


def text_of(finished: Finished) -> str:
    return "".join(b.text for b in finished.message.content if isinstance(b, Text))


def calls_of(finished: Finished) -> list[ToolCall]:
    return [b for b in finished.message.content if isinstance(b, ToolCall)]


@every
async def test_text_comes_in_pieces_that_make_the_whole(rig: Rig) -> None:
    events, finished = await collect(rig.provider, ask(text="hello"))
    pieces = [e.text for e in events if isinstance(e, TextDelta)]
    assert len(pieces) > 1
    assert "".join(pieces) == text_of(finished)
    assert finished.stop == "end"
    assert finished.message.role == "assistant"


@every
async def test_usage_is_told_in_disjoint_classes(rig: Rig) -> None:
    _, finished = await collect(rig.provider, ask("fake-cached"))
    assert finished.usage is not None
    assert finished.usage.output > 0
    if rig.kind != "demo":
        assert (finished.usage.input, finished.usage.cache_read, finished.usage.output) == (40, 60, 20)


@every
async def test_a_tool_call_comes_whole_with_its_id(rig: Rig) -> None:
    _, finished = await collect(rig.provider, ask("fake-tools"))
    (call,) = calls_of(finished)
    assert finished.stop == "tool_calls"
    assert call.id
    assert call.name == "shell"
    assert json.loads(call.arguments) == {"command": "echo hi"}


@every
async def test_a_tool_loop_goes_on(rig: Rig) -> None:
    _, first = await collect(rig.provider, ask("fake-tools"))
    (call,) = calls_of(first)
    messages = (*ask().messages, first.message, Message("user", (ToolResult(call.id, "hi", is_error=True),)))
    _, second = await collect(rig.provider, ask("fake-ok", messages=messages))
    assert second.stop == "end"
    assert text_of(second)


@every
async def test_thinking_is_kept_apart_from_the_answer(rig: Rig) -> None:
    events, finished = await collect(rig.provider, ask("fake-thinking", text="hello", thinking="low", max_tokens=8192))
    thought = "".join(e.text for e in events if isinstance(e, ThinkingDelta))
    block = finished.message.content[0]
    assert isinstance(block, Thinking)
    assert block.text == thought != ""
    assert thought not in text_of(finished)
    assert finished.usage is not None
    assert finished.usage.reasoning > 0


@every
async def test_many_calls_at_once(rig: Rig) -> None:
    done = await asyncio.gather(*(collect(rig.provider, ask(text="hello")) for _ in range(20)))
    assert len({text_of(finished) for _, finished in done}) == 1


@every
async def test_closing_early_is_quiet(rig: Rig) -> None:
    stream = rig.provider.stream(ask(text="hello"))
    await anext(stream)
    await stream.aclose()
    assert [event async for event in stream] == []


@http
async def test_closing_early_closes_upstream(rig: Rig) -> None:
    rig.vendor.script("m", Script(text="word " * 40_000, delay=0.01))
    stream = rig.provider.stream(ask("m"))
    await anext(stream)
    await stream.aclose()
    await soon(rig.vendor.last.gone.wait())


@http
async def test_cancelling_the_reader_closes_upstream(rig: Rig) -> None:
    reading = asyncio.ensure_future(collect(rig.provider, ask("fake-stalled-later")))
    await eventually(lambda: rig.vendor.received)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await soon(rig.vendor.last.gone.wait())


@http
@pytest.mark.parametrize("model", ["fake-limited", "fake-flaky", "fake-dropped"])
async def test_what_may_pass_is_tried_again(rig: Rig, model: str) -> None:
    _, finished = await collect(rig.provider, ask(model))
    assert finished.stop == "end"
    assert len(rig.vendor.received) == 2


@http
async def test_what_will_not_pass_is_not(rig: Rig) -> None:
    with pytest.raises(UpstreamError) as caught:
        await collect(rig.provider, ask("fake-refused"))
    assert caught.value.status == 401
    assert not caught.value.retryable
    assert len(rig.vendor.received) == 1
    assert "sk-wrong" not in caught.value.message


@http
async def test_tries_end(rig: Rig) -> None:
    provider = rig.limited(max_retries=1)
    with pytest.raises(UpstreamError) as caught:
        await collect(provider, ask("fake-down"))
    assert (caught.value.status, caught.value.retryable) == (503, True)
    assert len(rig.vendor.received) == 2
    await provider.close()


@http
async def test_a_wait_beyond_the_deadline_is_not_begun(rig: Rig) -> None:
    provider = rig.limited(timeout_seconds=6.9)
    with pytest.raises(UpstreamError) as caught:
        await collect(provider, ask("fake-limited-always"))
    assert (caught.value.status, caught.value.retry_after) == (429, 7.0)
    assert len(rig.vendor.received) == 1
    await provider.close()


@http
@pytest.mark.parametrize("model", ["fake-cut", "fake-malformed"])
async def test_a_broken_stream_is_an_error_and_is_not_begun_again(rig: Rig, model: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        await collect(rig.provider, ask(model))
    assert caught.value.details["reason"] == "cut"
    assert not caught.value.retryable
    assert len(rig.vendor.received) == 1


@http
async def test_a_stream_that_ends_too_soon_is_cut(rig: Rig) -> None:
    rig.vendor.script("m", Script(stop_at=4))
    with pytest.raises(UpstreamError) as caught:
        await collect(rig.provider, ask("m"))
    assert caught.value.details["reason"] == "cut"


@http
async def test_an_error_as_the_first_record_is_tried_again(rig: Rig) -> None:
    rig.vendor.script("m", Script(error_at=0), Script())
    _, finished = await collect(rig.provider, ask("m"))
    assert finished.stop == "end"
    assert len(rig.vendor.received) == 2


@http
async def test_an_error_in_the_middle_is_not(rig: Rig) -> None:
    rig.vendor.script("m", Script(error_at=5, error=f"It broke with {KEY} in hand."))
    with pytest.raises(UpstreamError, match="It broke") as caught:
        await collect(rig.provider, ask("m"))
    assert KEY not in caught.value.message
    assert not caught.value.retryable
    assert len(rig.vendor.received) == 1


@http
async def test_a_vendor_that_says_nothing_is_late(rig: Rig) -> None:
    provider = rig.limited(first_byte_seconds=1.5)
    with pytest.raises(UpstreamTimeout, match=r"nothing within 1\.5 s"):
        await collect(provider, ask("fake-stalled"))
    assert len(rig.vendor.received) == 1
    await soon(rig.vendor.last.gone.wait())
    await provider.close()


@http
async def test_a_vendor_that_stops_in_the_middle_is_late(rig: Rig) -> None:
    provider = rig.limited(timeout_seconds=1.5)
    with pytest.raises(UpstreamTimeout, match=r"within 1\.5 s"):
        await collect(provider, ask("fake-stalled-later"))
    await provider.close()


@http
async def test_keepalive_comments_are_skipped(rig: Rig) -> None:
    rig.vendor.script("m", Script(keepalive=True))
    _, finished = await collect(rig.provider, ask("m"))
    assert text_of(finished) == Script().text


@http
async def test_a_big_answer_comes_whole(rig: Rig) -> None:
    _, finished = await collect(rig.provider, ask("fake-big"))
    assert len(text_of(finished)) == 16 * 65_536


@http
async def test_parallel_calls_keep_their_order(rig: Rig) -> None:
    calls = tuple(FakeCall("shell", json.dumps({"command": f"echo {n}"}), f"call_{n}") for n in range(3))
    rig.vendor.script("m", Script(text="", calls=calls))
    _, finished = await collect(rig.provider, ask("m"))
    assert [c.id for c in calls_of(finished)] == ["call_0", "call_1", "call_2"]


@http
async def test_nobody_listening_is_a_connection_error(rig: Rig) -> None:
    await rig.vendor.__aexit__(None, None, None)
    provider = rig.limited(max_retries=0)
    with pytest.raises(UpstreamError) as caught:
        await collect(provider, ask())
    assert caught.value.status is None
    assert caught.value.retryable
    await provider.close()


@http
async def test_the_request_holds_what_was_asked_and_nothing_of_who_asked(rig: Rig) -> None:
    image = Image(media_type="image/png", data="aGk=")
    request = ask(messages=(Message("user", (Text("Look."), image)),), stop=("END",), temperature=0.5, top_p=0.9)
    _, finished = await collect(rig.provider, request)
    body = rig.vendor.last.body
    assert body["temperature"] == 0.5
    assert body["top_p"] == 0.9
    assert ["END"] in (body.get("stop"), body.get("stop_sequences"))
    assert "aGk=" in json.dumps(body)
    assert not {"user", "metadata", "safety_identifier", "user_profile_id"} & set(body)
    assert finished.provider_request_id == "vendor_req_1"


@http
@pytest.mark.parametrize("cut", [False, True])
async def test_the_tier_is_told_before_anything_is_said(rig: Rig, cut: bool) -> None:
    rig.vendor.script("m", Script(served="priority", cut_at=4 if cut else None))
    events: list[object] = []
    stream = rig.provider.stream(ask("m"))
    try:
        while (event := await anext(stream, None)) is not None:
            events.append(event)
    except UpstreamError:
        assert cut
    assert events[0] == Served("priority")
    assert events.count(Served("priority")) == 1
    assert any(isinstance(event, TextDelta) for event in events)
    last = events[-1]
    assert isinstance(last, Finished) != cut
    if isinstance(last, Finished):
        assert last.usage is not None
        assert last.usage.served == "priority"
