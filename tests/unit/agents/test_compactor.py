"""A summary is asked for, billed, and written down; where none can be had, an excerpt does."""

from pathlib import Path

import pytest

from carrel.errors import NotFound, QuotaExceeded, UpstreamError
from carrel.ids import RequestId, SessionId
from tests.fakes.agents import House, RecordingMeter, house, scripted
from tests.fakes.clock import FakeClock
from tests.fakes.model import Play

S1, R1 = SessionId("s1"), RequestId("req_9")
LONG = "word " * 5000


async def talked(home: House) -> None:
    for text in ("my name is Ada", LONG, LONG):
        await home.say(text)


async def test_all_but_the_newest_becomes_a_summary(tmp_path: Path) -> None:
    provider = scripted(Play("a"), Play("b"), Play("c"), Play("Her name is Ada."), Play("d"))
    async with house(tmp_path, provider) as home:
        await talked(home)
        done = await home.agents.compact(home.tenant, home.snapshot, S1, request_id=R1)
        assert done is not None
        assert (done.model, done.usage.total) == ("demo", 15)
        assert done.messages >= 2
        request = provider.requests[3]
        assert "my name is Ada" in repr(request.messages)
        assert not request.tools
        assert [c.call.request_id for c in home.meter.calls][-1] == R1
        assert home.meter.outcomes == ["ok"] * 4
        await home.say("who am I?")
        assert "Her name is Ada." in repr(provider.requests[4].messages[0])
        assert "my name is Ada" not in repr(provider.requests[4].messages)
        assert "my name is Ada" in home.path().read_text()


@pytest.mark.parametrize(
    "play", [Play("  \n"), Play(error=UpstreamError("broken", status=500)), Play("abcdefgh", error=UpstreamError("cut"),
                                                                         error_after=1)],
    ids=["empty", "broken", "cut"],
)  # fmt: skip
async def test_an_excerpt_stands_in(tmp_path: Path, play: Play) -> None:
    provider = scripted(Play("a"), Play("b"), Play("c"), play, Play("d"))
    async with house(tmp_path, provider) as home:
        await talked(home)
        done = await home.agents.compact(home.tenant, home.snapshot, S1, request_id=R1)
        assert done is not None
        assert done.model is None
        await home.say("who am I?")
        assert "User: my name is Ada" in repr(provider.requests[4].messages[0])


async def test_the_demo_can_do_it_too(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        await talked(home)
        done = await home.agents.compact(home.tenant, home.snapshot, S1, request_id=R1)
        assert done is not None
        assert done.model == "demo"
        assert [line["summary"] for line in home.lines() if line["type"] == "compaction"] != [""]


async def test_there_may_be_nothing_to_fold_and_nobody_to_ask(tmp_path: Path) -> None:
    over = QuotaExceeded("used up", quota="tokens", retry_after=1, reset_at=FakeClock().now())
    meter = RecordingMeter(lambda number: over if number == 4 else None)
    async with house(tmp_path, scripted(Play("a")), meter=meter) as home:
        with pytest.raises(NotFound):
            await home.agents.compact(home.tenant, home.snapshot, S1, request_id=R1)
        await home.say("hi")
        assert await home.agents.compact(home.tenant, home.snapshot, S1, request_id=R1) is None
        await home.say(LONG)
        await home.say(LONG)
        with pytest.raises(QuotaExceeded):
            await home.agents.compact(home.tenant, home.snapshot, S1, request_id=R1)
        assert not [line for line in home.lines() if line["type"] == "compaction"]
