"""How a response is made while nobody waits: with a provider and a relay that do as told."""

import json
from pathlib import Path
from typing import Any

import pytest

from carrel.errors import UpstreamError
from carrel.http.background import passed_through, played
from carrel.relay.answer import Answer, Caller
from carrel.relay.dialects.protocol import CallFields
from carrel.responses.book import Kept
from carrel.responses.service import Run
from carrel.wire.conversation import Finished, Message, Text, TextDelta
from carrel.wire.responses_request import parse
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_tenant

ASK = b'{"model":"m","input":"hi","stream":true}'


def run() -> Run:
    return Run(Kept({"id": "resp_ours", "previous_response_id": "resp_before"}, (), FakeClock().now()))


async def test_events_are_noted_under_our_own_id_and_numbers() -> None:
    made = run()

    async def events() -> Any:
        yield None
        yield TextDelta("hi")
        yield Finished(Message("assistant", (Text("hi"),)), "end", None)

    body = await played(made, parse(ASK).streaming(id="x", created=1), events())
    assert (body["id"], body["background"], body["previous_response_id"]) == ("resp_ours", True, "resp_before")
    assert [event["sequence_number"] for event in made.events] == list(range(len(made.events)))
    assert made.events[-1]["response"] == body


async def test_an_answer_without_an_end_is_no_response() -> None:
    async def events() -> Any:
        yield TextDelta("hi")

    with pytest.raises(UpstreamError):
        await played(run(), parse(ASK).streaming(id="x", created=1), events())


class Relay:
    """Answers with ``data``, whole in as far as ``ends``."""

    def __init__(self, *, ends: bool) -> None:
        self.ends = ends

    async def pass_on(self, caller: Caller, *_: object, fields: CallFields) -> Answer:
        answer = Answer(caller, status=200, content_type="text/event-stream", request_id=_[2])  # type: ignore[arg-type] # the id
        answer.begin()
        observer = fields.observer(hide_usage=False)
        response = {"id": "resp_theirs", "status": "completed", "output": []}
        for kind in ("created", "completed")[: 2 if self.ends else 1]:
            event = {"type": f"response.{kind}", "sequence_number": 7, "response": response}
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            await answer.send(observer.feed(data) or observer.held)
        return answer


class Exchange:
    """What is taken of one."""

    def __init__(self, relay: Relay) -> None:
        self.services: Any = type("Services", (), {"relay": relay})
        self.snapshot = self.request_id = "r"


@pytest.mark.parametrize("ends", [True, False])
async def test_a_vendors_stream_is_noted_and_must_be_whole(tmp_path: Path, ends: bool) -> None:
    made = run()
    exchange: Any = Exchange(Relay(ends=ends))
    tenant = make_tenant(tmp_path)
    if not ends:
        with pytest.raises(UpstreamError):
            await passed_through(exchange, tenant, made, ASK, response_id="resp_ours")
        return
    body = await passed_through(exchange, tenant, made, ASK, response_id="resp_ours")
    assert body["id"] == "resp_ours"
    assert [event["response"]["id"] for event in made.events] == ["resp_ours", "resp_ours"]
    assert [event["sequence_number"] for event in made.events] == [0, 1]
