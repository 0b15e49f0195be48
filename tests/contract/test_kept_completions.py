"""OpenAI's own SDK on the chat completions that it had kept: listed, fetched, noted, deleted, whoever answered."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.fakes.edge import token_of
from tests.fakes.vendor import FakeCall, Script
from tests.fakes.vendor_edge import VendorEdge, vendor_edge

ASK: Any = [{"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]}]  # fmt: skip
MODELS = ("gpt-ok", "claude-ok", "agent:main")
TOOLS: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[VendorEdge]:
    async with vendor_edge(tmp_path) as made:
        made.model("gpt-ok")
        made.model("claude-ok")
        yield made


@pytest.mark.parametrize("model", MODELS)
async def test_one_is_kept_fetched_noted_and_deleted(rig: VendorEdge, model: str) -> None:
    kept = rig.gpt.chat.completions
    made = await kept.create(model=model, messages=ASK, store=True, metadata={"a": "b"})
    again = await kept.retrieve(made.id)
    assert (again.id, again.choices, again.usage) == (made.id, made.choices, made.usage)
    assert again.metadata == {"a": "b"}
    noted = await kept.update(made.id, metadata={"c": "d"})
    assert noted.metadata == {"c": "d"}
    messages = [message async for message in kept.messages.list(made.id, limit=1)]
    assert [(m.role, m.content) for m in messages] == [("system", "be brief"), ("user", "hello")]
    assert messages[1].content_parts is not None
    newest = [message.id async for message in kept.messages.list(made.id, order="desc")]
    assert newest == [message.id for message in messages][::-1]
    assert (await kept.delete(made.id)).deleted
    for gone in (kept.retrieve(made.id), kept.delete(made.id), kept.update(made.id, metadata=None)):
        with pytest.raises(openai.NotFoundError):
            await gone


@pytest.mark.parametrize("model", MODELS)
async def test_a_stream_is_kept_whole_before_its_end(rig: VendorEdge, model: str) -> None:
    if not model.startswith("agent"):
        kind = model.partition("-")[0]
        rig.vendor.script("look", Script(text="Look:", thinking="hm", calls=(FakeCall("look", '{"a": 1}', "call_9"),)))
        model = rig.model(f"{kind}-look")
    tools: Any = {} if model.startswith("agent") else {"tools": TOOLS}
    async with rig.gpt.chat.completions.stream(model=model, messages=ASK, store=True, **tools) as stream:
        final = await stream.get_final_completion()
    kept = await rig.gpt.chat.completions.retrieve(final.id)
    said, wrote = kept.choices[0].message, final.choices[0].message
    assert (said.content, kept.choices[0].finish_reason) == (wrote.content, final.choices[0].finish_reason)
    calls = [(c.id, c.function.name, c.function.arguments) for c in said.tool_calls or ()]  # type: ignore[union-attr]
    assert calls == ([] if model.startswith("agent") else [("call_9", "look", '{"a": 1}')])
    assert kept.usage is not None
    assert kept.usage.total_tokens > 0


async def test_with_the_operators_key_the_vendor_stores_nothing(rig: VendorEdge) -> None:
    await rig.gpt.chat.completions.create(model="gpt-ok", messages=ASK, store=True, metadata={"a": "b"})
    assert rig.vendor.last.body["store"] is False
    assert rig.vendor.last.body["metadata"] is None
    sneaky = b'{"model": "gpt-ok", "messages": [{"role": "user", "content": "x"}], "st\\u006fre": true}'
    answer = await rig.gpt.post(
        "/chat/completions", cast_to=openai.types.chat.ChatCompletion, content=sneaky,
        options={"headers": {"Content-Type": "application/json"}},
    )  # fmt: skip
    assert rig.vendor.last.body["store"] is False
    assert (await rig.gpt.chat.completions.retrieve(answer.id)).id == answer.id


async def test_what_is_not_to_be_kept_is_not(rig: VendorEdge) -> None:
    rig.vendor.script("cut", Script(cut_at=3))
    rig.model("gpt-cut")
    for model in MODELS:
        for store in (False, None):
            made = await rig.gpt.chat.completions.create(model=model, messages=ASK, store=store)
            with pytest.raises(openai.NotFoundError):
                await rig.gpt.chat.completions.retrieve(made.id)
    with pytest.raises(openai.APIError):
        _ = [c async for c in await rig.gpt.chat.completions.create(
            model="gpt-cut", messages=ASK, store=True, stream=True)]  # fmt: skip
    assert [c async for c in rig.gpt.chat.completions.list()] == []


async def test_they_are_listed_in_pages_by_model_and_metadata(rig: VendorEdge) -> None:
    made = []
    for number, model in enumerate(("gpt-ok", "claude-ok", "gpt-ok", "gpt-ok")):
        notes = {"n": str(number), 'odd" name': "x"}
        made.append(await rig.gpt.chat.completions.create(model=model, messages=ASK, store=True, metadata=notes))
    ids = [one.id for one in made]

    async def listed(**asked: Any) -> list[str]:
        return [one.id async for one in rig.gpt.chat.completions.list(**asked)]

    assert await listed(limit=1) == ids
    assert await listed(limit=3, order="desc") == ids[::-1]
    assert await listed(model="gpt-ok") == [ids[0], ids[2], ids[3]]
    assert await listed(metadata={"n": "1"}) == [ids[1]]
    assert await listed(metadata={'odd" name': "x", "n": "3"}) == [ids[3]]
    for wrong in ({"after": "nope"}, {"limit": 0}, {"order": "up"}):
        with pytest.raises(openai.BadRequestError) as refused:
            await listed(**wrong)
        assert refused.value.param == next(iter(wrong))


async def test_they_are_the_tenants_own(rig: VendorEdge) -> None:
    made = await rig.gpt.chat.completions.create(model="gpt-ok", messages=ASK, store=True)
    other = rig.gpt.with_options(api_key=token_of("bravo"))
    with pytest.raises(openai.NotFoundError):
        await other.chat.completions.retrieve(made.id)
    assert [one async for one in other.chat.completions.list()] == []


async def test_what_cannot_be_kept_as_it_is_asked_is_refused_by_name(rig: VendorEdge) -> None:
    wrong: Any
    for wrong, name in (
        ({"store": "yes"}, "store"), ({"store": True, "metadata": {"a": "x" * 513}}, "metadata"),
        ({"store": True, "metadata": {str(n): "x" for n in range(17)}}, "metadata"),
    ):  # fmt: skip
        with pytest.raises(openai.BadRequestError) as refused:
            await rig.gpt.chat.completions.create(model="gpt-ok", messages=ASK, extra_body=wrong)
        assert refused.value.param == name
    made = await rig.gpt.chat.completions.create(model="gpt-ok", messages=ASK, store=True)
    with pytest.raises(openai.BadRequestError) as refused:
        await rig.gpt.chat.completions.update(made.id, metadata=None, extra_body={"model": "x"})
    assert refused.value.param == "model"
    assert len(rig.vendor.received) == 1


@pytest.mark.parametrize("streams", [False, True])
async def test_a_vendor_that_gives_two_the_same_id_overwrites_none(rig: VendorEdge, streams: bool) -> None:
    made: list[tuple[str, str]] = []
    for text in ("the first", "the second"):
        rig.vendor.script("same", Script(text=text, answer_id="chatcmpl-1", piece=3))
        model = rig.model("gpt-same")
        if streams:
            pieces = [piece async for piece in await rig.gpt.chat.completions.create(
                model=model, messages=ASK, store=True, stream=True
            )]  # fmt: skip
            [its_id] = {piece.id for piece in pieces}
        else:
            its_id = (await rig.gpt.chat.completions.create(model=model, messages=ASK, store=True)).id
        made.append((its_id, text))
    for its_id, text in made:
        kept = await rig.gpt.chat.completions.retrieve(its_id)
        assert (kept.id, kept.choices[0].message.content) == (its_id, text)
    assert len([one async for one in rig.gpt.chat.completions.list()]) == 2
