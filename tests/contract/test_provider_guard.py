"""A provider that is down, and one that a tenant floods, as the vendors' SDKs of others see it."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from carrel.declare.gateway import CircuitConfig
from tests.fakes.edge import token_of
from tests.fakes.patience import eventually
from tests.fakes.vendor import Script
from tests.fakes.vendor_edge import VendorEdge, vendor_edge

ASK: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[VendorEdge]:
    async with vendor_edge(tmp_path) as made:
        made.vendor.script("down", Script(status=503, error="Unavailable."))
        made.model("gpt-ok")
        made.model("claude-ok")
        yield made


@pytest.mark.parametrize("model", ["gpt-down", "claude-down"])
async def test_a_provider_that_is_down_is_left_alone_and_tried_again(rig: VendorEdge, model: str) -> None:
    rig.providers(circuit=CircuitConfig(failures=2, open_seconds=600))
    rig.model(model)
    for _ in range(2):
        with pytest.raises(anthropic.APIStatusError):
            await rig.claude.messages.create(model=model, max_tokens=9, messages=ASK)
    asked = len(rig.vendor.received)
    with pytest.raises(openai.InternalServerError) as refused:
        await rig.gpt.chat.completions.create(model=model, messages=ASK)
    assert (refused.value.status_code, refused.value.code) == (503, "provider_unavailable")
    assert int(refused.value.response.headers["Retry-After"]) > 60
    with pytest.raises(anthropic.APIStatusError) as other:
        await rig.claude.messages.create(model=model, max_tokens=9, messages=ASK)
    assert other.value.status_code == 503
    assert len(rig.vendor.received) == asked, "nobody asked it"
    kind, _, _ = model.partition("-")
    sound = "claude-ok" if kind == "gpt" else "gpt-ok"
    assert (await rig.gpt.responses.create(model=sound, input="hi")).output_text, "another provider is as before"
    rig.model(model, fallbacks=(sound,))
    answer = await rig.claude.messages.create(model=model, max_tokens=9, messages=ASK)
    assert answer.content[-1].text == "Hello from the fake vendor."  # type: ignore[union-attr]


async def test_a_tenant_that_floods_leaves_room_for_others_and_waits_itself(rig: VendorEdge) -> None:
    rig.providers(max_connections=4)
    rig.vendor.script("held", Script(hold_at=1))
    for model in ("gpt-held", "claude-held"):
        rig.model(model)
        before = len(rig.vendor.received)
        flood = [asyncio.create_task(rig.gpt.chat.completions.create(model=model, messages=ASK)) for _ in range(12)]
        streams = [asyncio.create_task(consume(rig, model)) for _ in range(12)]
        await eventually(partial(reached, rig, before + 3))
        sound = model.replace("held", "ok")
        for _ in range(3):
            async with openai.AsyncOpenAI(
                base_url=f"{rig.edge.url}/v1", api_key=token_of("bravo"), max_retries=0
            ) as bravo:
                said = await bravo.chat.completions.create(model=sound, messages=ASK)
                assert said.choices[0].message.content == "Hello from the fake vendor."
        held = [one for one in rig.vendor.received[before:] if one.body["model"] == "held"]
        assert len(held) <= 24
        for task in (*flood, *streams):
            task.cancel()
        await asyncio.gather(*flood, *streams, return_exceptions=True)


def reached(rig: VendorEdge, calls: int) -> bool:
    return len(rig.vendor.received) >= calls


async def consume(rig: VendorEdge, model: str) -> None:
    stream = await rig.gpt.chat.completions.create(model=model, messages=ASK, stream=True)
    async for _ in stream:
        continue
