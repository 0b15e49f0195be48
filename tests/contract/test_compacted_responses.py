"""OpenAI's own SDK on conversations that are made shorter, and gone on with by whichever model."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.fakes.vendor import Script
from tests.fakes.vendor_edge import VendorEdge, vendor_edge

SUMMARY = "They looked for the red key."
ITEMS: Any = [
    {"role": "user", "content": "where is the key?"},
    {"role": "assistant", "content": "in the drawer"},
    {"role": "user", "content": "which one?"},
]
MODELS = ("gpt-sum", "claude-sum")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[VendorEdge]:
    async with vendor_edge(tmp_path) as made:
        made.vendor.script("sum", Script(text=SUMMARY))
        for model in ("gpt-ok", "claude-ok", *MODELS):
            made.model(model)
        yield made


@pytest.mark.parametrize("model", MODELS)
async def test_a_conversation_is_its_users_words_and_a_summary(rig: VendorEdge, model: str) -> None:
    made = await rig.gpt.responses.compact(model=model, input=ITEMS, instructions="You are a butler.")
    assert made.object == "response.compaction"
    words = [(item.role, item.content[0].text) for item in made.output[:-1]]  # type: ignore[union-attr, index]
    assert words == [("user", "where is the key?"), ("user", "which one?")]
    assert made.output[-1].type == "compaction"
    assert SUMMARY not in made.output[-1].encrypted_content
    assert made.usage.input_tokens == 100
    assert rig.settled[1] == "ok"
    sent = str(rig.vendor.last.body)
    assert "in the drawer" in sent
    assert "You are a butler." in sent


@pytest.mark.parametrize("model", ["gpt-ok", "claude-ok", "agent:main"])
async def test_every_model_goes_on_with_it(rig: VendorEdge, model: str) -> None:
    made = await rig.gpt.responses.compact(model="claude-sum", input=ITEMS)
    following: Any = [*(item.to_dict(warnings=False) for item in made.output), {"role": "user", "content": "and now?"}]
    answer = await rig.gpt.responses.create(model=model, input=following)
    told = str(rig.edge.agents.turns[-1].messages) if model == "agent:main" else str(rig.vendor.last.body)
    assert SUMMARY in told
    assert "compaction" not in told
    listed = [item.type async for item in rig.gpt.responses.input_items.list(answer.id, order="asc")]
    assert listed[2] == "compaction"
    if model != "agent:main":
        await rig.gpt.responses.create(model=model, input="more", previous_response_id=answer.id)
        assert SUMMARY in str(rig.vendor.last.body)
        assert "compaction" not in str(rig.vendor.last.body)


async def test_what_was_kept_is_compacted_and_compacted_again(rig: VendorEdge) -> None:
    first = await rig.gpt.responses.create(model="gpt-ok", input="hello there")
    made = await rig.gpt.responses.compact(model="gpt-sum", previous_response_id=first.id, input="go on")
    assert "hello there" in str(rig.vendor.last.body)
    again: Any = [item.to_dict(warnings=False) for item in made.output]
    twice = await rig.gpt.responses.compact(model="gpt-sum", input=again)
    assert SUMMARY in str(rig.vendor.last.body)
    assert [item.type for item in twice.output] == ["message", "message", "compaction"]


async def test_a_model_that_writes_nothing_does_not_stand_in_the_way(rig: VendorEdge) -> None:
    rig.vendor.script("mute", Script(text=""))
    made = await rig.gpt.responses.compact(model=rig.model("claude-mute"), input=ITEMS)
    following: Any = [item.to_dict(warnings=False) for item in made.output]
    await rig.gpt.responses.create(model="gpt-ok", input=following)
    assert "in the drawer" in str(rig.vendor.last.body)


async def test_what_cannot_be_compacted_is_refused_by_name(rig: VendorEdge) -> None:
    wrong: Any
    for wrong, name in (
        ({"model": "agent:main"}, "model"), ({"service_tier": "priority"}, "service_tier"),
        ({"tools": [{"type": "function"}]}, "tools"), ({"previous_response_id": "resp_nope"}, "previous_response_id"),
        ({"input": [{"type": "compaction", "encrypted_content": "carrel1-summary.!"}]}, "input[0]"),
        ({"input": []}, "input"),
    ):  # fmt: skip
        with pytest.raises(openai.BadRequestError) as refused:
            await rig.gpt.responses.compact(model="gpt-sum", input=ITEMS, extra_body=wrong)
        assert refused.value.param == name
    with pytest.raises(openai.NotFoundError):
        await rig.gpt.responses.compact(model="nope", input=ITEMS)
    assert rig.vendor.received == []
    rig.vendor.script("down", Script(status=503, error="Unavailable."))
    with pytest.raises(openai.APIStatusError) as down:
        await rig.gpt.responses.compact(model=rig.model("gpt-down"), input=ITEMS)
    assert down.value.status_code == 502
