"""OpenAI's own SDK on what it keeps: responses gone on from, fetched, listed, cancelled, deleted, in the background."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.fakes.patience import eventually
from tests.fakes.vendor import FakeCall, Script
from tests.fakes.vendor_edge import VendorEdge, vendor_edge

CALL = FakeCall("look", '{"a": 1}', "call_9")
TOOLS: Any = [{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[VendorEdge]:
    async with vendor_edge(tmp_path) as made:
        made.model("gpt-ok")
        made.model("claude-ok")
        yield made


@pytest.mark.parametrize("model", ["gpt-ok", "claude-ok", "agent:main"])
async def test_a_response_is_kept_fetched_listed_and_deleted(rig: VendorEdge, model: str) -> None:
    made = await rig.gpt.responses.create(model=model, input="hello", metadata={"a": "b"})
    again = await rig.gpt.responses.retrieve(made.id)
    assert (again.id, again.output_text, again.status) == (made.id, made.output_text, "completed")
    items = [item async for item in rig.gpt.responses.input_items.list(made.id)]
    assert [(item.type, item.role) for item in items] == [("message", "user")]  # type: ignore[union-attr]
    await rig.gpt.responses.delete(made.id)
    for gone in (rig.gpt.responses.retrieve, rig.gpt.responses.delete, rig.gpt.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            await gone(made.id)
    with pytest.raises(openai.NotFoundError):
        await rig.gpt.responses.input_items.list(made.id)


async def test_what_is_not_to_be_kept_is_not(rig: VendorEdge) -> None:
    for model in ("gpt-ok", "claude-ok", "agent:main"):
        made = await rig.gpt.responses.create(model=model, input="hello", store=False)
        with pytest.raises(openai.NotFoundError):
            await rig.gpt.responses.retrieve(made.id)


@pytest.mark.parametrize("model", ["gpt-tools", "claude-tools"])
async def test_a_conversation_goes_on_from_a_response_with_all_that_was_said(rig: VendorEdge, model: str) -> None:
    rig.vendor.script("tools", Script(text="Look:", thinking="hm", calls=(CALL,)))
    rig.model(model)
    async with rig.gpt.responses.stream(
        model=model, input="what is it?", tools=TOOLS, reasoning={"effort": "low"}
    ) as stream:
        await stream.until_done()
        first = await stream.get_final_response()
    output: Any = {"type": "function_call_output", "call_id": "call_9", "output": "42"}
    second = await rig.gpt.responses.create(model=model, input=[output], tools=TOOLS, previous_response_id=first.id)
    assert (await rig.gpt.responses.retrieve(second.id)).previous_response_id == first.id
    await rig.gpt.responses.create(model=model, input="and?", tools=TOOLS, previous_response_id=second.id)
    sent = rig.vendor.last.body
    if model.startswith("gpt"):
        assert sent["store"] is False
        assert sent["previous_response_id"] is None
        kinds = [item.get("type", "message") for item in sent["input"]]
        assert kinds == ["message", "reasoning", "message", "function_call", "function_call_output",
                         "reasoning", "message", "function_call", "message"]  # fmt: skip
        assert rig.vendor.received[0].body["include"] == ["reasoning.encrypted_content"]
        assert not any("id" in item for item in sent["input"] if item.get("type") != "reasoning")
    else:
        roles = [message["role"] for message in sent["messages"]]
        assert roles == ["user", "assistant", "user", "assistant", "user"]
        assert sent["messages"][1]["content"][0]["signature"] == "c2lnbmF0dXJl"
        assert sent["messages"][2]["content"][0]["content"] == "42"


async def test_a_conversation_goes_on_with_the_other_vendors_model(rig: VendorEdge) -> None:
    first = await rig.gpt.responses.create(model="claude-ok", input="hello", instructions="said once")
    second = await rig.gpt.responses.create(model="gpt-ok", input="and?", previous_response_id=first.id)
    assert [item["role"] for item in rig.vendor.last.body["input"]] == ["user", "assistant", "user"]
    assert rig.vendor.last.body.get("instructions") is None
    await rig.gpt.responses.create(model="claude-ok", input="well?", previous_response_id=second.id)
    assert len(rig.vendor.last.body["messages"]) == 5
    for missing in ("resp_nope", "x"):
        with pytest.raises(openai.BadRequestError) as refused:
            await rig.gpt.responses.create(model="gpt-ok", input="x", previous_response_id=missing)
        assert refused.value.param == "previous_response_id"


async def test_an_agent_goes_on_in_its_session(rig: VendorEdge) -> None:
    first = await rig.gpt.responses.create(model="agent:main", input="hello")
    await rig.gpt.responses.create(model="agent:main", input="and?", previous_response_id=first.id)
    model = await rig.gpt.responses.create(model="gpt-ok", input="from a model")
    await rig.gpt.responses.create(model="agent:main", input="go on", previous_response_id=model.id)
    one, two, three = rig.edge.agents.turns
    assert one.session_id == two.session_id != three.session_id
    assert [message.role for message in three.messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize("model", ["gpt-ok", "claude-ok", "agent:main"])
async def test_one_is_made_in_the_background(rig: VendorEdge, model: str) -> None:
    made = await rig.gpt.responses.create(model=model, input="hello", background=True)
    assert made.status == "queued"
    await ended(rig, made.id, "completed")
    done = await rig.gpt.responses.retrieve(made.id)
    assert done.background is True
    assert done.output_text
    assert done.usage is not None
    if not model.startswith("agent"):
        assert rig.settled[1] == "ok"
    again = await rig.gpt.responses.create(model=model, input="and?", previous_response_id=made.id)
    assert again.output_text


@pytest.mark.parametrize("model", ["gpt-endless", "claude-endless"])
async def test_one_in_the_background_is_cancelled_and_its_call_with_it(rig: VendorEdge, model: str) -> None:
    rig.vendor.script("endless", Script(text="word " * 10_000, delay=0.02))
    rig.model(model)
    made = await rig.gpt.responses.create(model=model, input="hello", background=True, stream=True)
    events = aiter(made)
    first = await anext(events)
    response_id: str = first.response.id  # type: ignore[union-attr]
    await anext(events)
    await made.close()
    assert (await rig.gpt.responses.retrieve(response_id)).status in ("queued", "in_progress")
    assert (await rig.gpt.responses.cancel(response_id)).status == "cancelled"
    await eventually(rig.vendor.last.gone.is_set)
    assert rig.settled[1] == "cancelled"
    assert (await rig.gpt.responses.cancel(response_id)).status == "cancelled", "twice is once"
    plain = await rig.gpt.responses.create(model="gpt-ok", input="x")
    with pytest.raises(openai.BadRequestError):
        await rig.gpt.responses.cancel(plain.id)


@pytest.mark.parametrize("model", ["gpt-ok", "claude-ok"])
async def test_a_stream_of_the_background_is_gone_back_to(rig: VendorEdge, model: str) -> None:
    made = await rig.gpt.responses.create(model=model, input="hello", background=True, stream=True)
    events = [event async for event in made]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    response_id = events[-1].response.id
    again = await rig.gpt.responses.retrieve(response_id, stream=True, starting_after=2)
    assert [event.type async for event in again] == [event.type for event in events[3:]]
    async with rig.gpt.responses.stream(response_id=response_id) as stream:
        final = await stream.get_final_response()
    assert final.output_text == "Hello from the fake vendor."
    plain = await rig.gpt.responses.create(model=model, input="x")
    replayed = [event.type async for event in await rig.gpt.responses.retrieve(plain.id, stream=True)]
    assert replayed[0] == "response.created"
    assert replayed[-1] == "response.completed"


@pytest.mark.parametrize("model", ["gpt-down", "claude-down"])
async def test_one_that_fails_in_the_background_says_so(rig: VendorEdge, model: str) -> None:
    rig.vendor.script("down", Script(status=503, error="Unavailable."))
    rig.model(model)
    made = await rig.gpt.responses.create(model=model, input="hello", background=True)
    await ended(rig, made.id, "failed")
    failed = await rig.gpt.responses.retrieve(made.id)
    assert failed.error is not None
    assert "503" in failed.error.message
    with pytest.raises(openai.BadRequestError) as refused:
        await rig.gpt.responses.create(model=model, input="x", background=True, store=False)
    assert refused.value.param == "store"


async def test_items_are_listed_in_pages_and_both_orders(rig: VendorEdge) -> None:
    asked: Any = [{"role": "user", "content": f"n{n}"} for n in range(5)]
    made = await rig.gpt.responses.create(model="claude-ok", input=asked)

    def text(item: Any) -> str:
        return str(item.content[0].text)

    newest = [text(item) async for item in rig.gpt.responses.input_items.list(made.id, limit=2)]
    oldest = [text(item) async for item in rig.gpt.responses.input_items.list(made.id, limit=2, order="asc")]
    assert oldest == newest[::-1] == [f"n{n}" for n in range(5)]
    with pytest.raises(openai.BadRequestError):
        await rig.gpt.responses.input_items.list(made.id, after="nope")
    with pytest.raises(openai.BadRequestError):
        await rig.gpt.responses.input_items.list(made.id, limit=1000)


async def test_tokens_of_an_input_are_estimated(rig: VendorEdge) -> None:
    for model in ("gpt-ok", "claude-ok", "agent:main"):
        counted = await rig.gpt.responses.input_tokens.count(model=model, input="four score and seven years ago")
        assert counted.input_tokens > 5
    assert rig.vendor.received == []


async def ended(rig: VendorEdge, response_id: str, status: str) -> None:
    responses = rig.edge.services.responses
    assert responses is not None
    tenant = next(t for t in rig.edge.directory.current.tenants.values() if t.id == "acme")
    await eventually(lambda: responses.running(tenant, response_id) is None)
    assert (await rig.gpt.responses.retrieve(response_id)).status == status


@pytest.mark.parametrize("streams", [False, True])
async def test_a_vendor_that_gives_two_the_same_id_overwrites_none(rig: VendorEdge, streams: bool) -> None:
    made: list[tuple[str, str]] = []
    for text in ("the first", "the second"):
        rig.vendor.script("same", Script(text=text, answer_id="1", piece=3))
        model = rig.model("gpt-same")
        if streams:
            events = [event async for event in await rig.gpt.responses.create(model=model, input="x", stream=True)]
            [its_id] = {event.response.id for event in events if hasattr(event, "response")}
        else:
            its_id = (await rig.gpt.responses.create(model=model, input="x")).id
        made.append((its_id, text))
    for its_id, text in made:
        kept = await rig.gpt.responses.retrieve(its_id)
        assert (kept.id, kept.output_text) == (its_id, text)
    unkept = await rig.gpt.responses.create(model=rig.model("gpt-same"), input="x", store=False)
    assert unkept.id == "resp_1"
