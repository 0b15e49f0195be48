"""A caller inside the gateway."""

import pytest

from carrel.ids import RequestId
from carrel.relay import collected
from carrel.relay.answer import Answer, CallerGone
from carrel.relay.collected import Collected


async def test_a_body_is_kept_or_told_without_head_and_framing() -> None:
    told: list[bytes] = []
    for caller in (Collected(), Collected(told.append)):
        answer = Answer(caller, status=200, content_type="text/plain", request_id=RequestId("r"))
        answer.begin()
        await answer.send(b"one ")
        await answer.send(b"two")
        answer.finish()
        assert caller.body == (b"" if told else b"one two")
    assert b"".join(told) == b"one two"


def test_there_is_an_end_to_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collected, "MOST_BYTES", 10)
    caller = Collected()
    caller.put(b"HTTP/1.1 2")
    with pytest.raises(CallerGone):
        caller.put(b"0")
