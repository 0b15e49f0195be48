"""A call is reserved before, settled once whatever happens, and its end is told after both."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from carrel.agents.candidates import Candidate
from carrel.agents.events import Notice
from carrel.agents.model_calls import Ask, CallEnd, ModelCalls
from carrel.agents.streams import closing
from carrel.clock import SystemClock
from carrel.declare.rate_card import TokenCounts
from carrel.errors import InvalidRequest, StorageFull, UpstreamError, UpstreamTimeout
from carrel.ids import RequestId, SessionId
from carrel.providers.hedged import Hedge
from carrel.tasks import Tasks
from carrel.tenancy.handle import Tenant
from carrel.wire.conversation import Finished, Message, ModelEvent, ModelRequest, Text, TextDelta, ThinkingDelta
from tests.fakes.agents import RecordingMeter, call, models
from tests.fakes.model import USED, Play, ScriptedProvider
from tests.fakes.tenants import make_snapshot, make_tenant

BROKEN = UpstreamError("The vendor is broken.", status=500)


@dataclass
class Rig:
    """Calls over a scripted provider, and the order in which things happened."""

    tenant: Tenant
    meter: RecordingMeter = field(default_factory=RecordingMeter)
    tasks: Tasks = field(default_factory=lambda: Tasks("calls"))
    ends: list[CallEnd] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    refuse_accept: bool = False

    def ask(self, *names: str) -> Ask:
        async def accepted() -> None:
            self.log.append("accepted")
            if self.refuse_accept:
                raise StorageFull("full")

        async def ended(end: CallEnd) -> None:
            await asyncio.sleep(0)
            assert self.meter.calls[-1].endings, "the ledger comes first"
            self.ends.append(end)
            self.log.append(f"ended {end.outcome}")

        return Ask(
            tenant=self.tenant, snapshot=make_snapshot(self.tenant, models=models()), request_id=RequestId("r1"),
            session_id=SessionId("s1"), agent="main", accepted=accepted, ended=ended,
            candidates=tuple(Candidate(name, models()[name], byo=False) for name in names or ("demo",)),
            request=lambda candidate: ModelRequest(
                candidate.upstream, (Message("user", (Text("hi " * 100),)),), max_tokens=77
            ),
        )  # fmt: skip

    def calls(self, provider: ScriptedProvider) -> ModelCalls:
        return ModelCalls(providers=provider, meter=self.meter, tasks=self.tasks, clock=SystemClock())

    async def play(self, provider: ScriptedProvider, *names: str) -> list[TextDelta | ThinkingDelta | Notice | CallEnd]:
        events = []
        async with closing(self.calls(provider).stream(self.ask(*names))) as stream:
            async for event in stream:
                self.log.append(type(event).__name__)
                events.append(event)
        return events


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(make_tenant(tmp_path))
    yield made
    await made.tasks.drain(1)
    await made.tasks.close()
    made.tenant.root.close()


async def test_an_answer_is_told_after_its_row_and_its_lines(rig: Rig) -> None:
    provider = ScriptedProvider([Play("hello", thinking="hm", calls=(call("shell"),))])
    events = await rig.play(provider)
    assert rig.log == ["accepted", "ThinkingDelta", "TextDelta", "TextDelta", "ended ok", "CallEnd"]
    end = events[-1]
    assert isinstance(end, CallEnd)
    assert (end.usage, end.estimated, end.outcome) == (USED, False, "ok")
    [settled] = rig.meter.calls
    assert settled.endings == [(USED, "ok", False)]
    assert settled.tool_calls == 1
    assert (settled.call.model, settled.call.max_output, settled.call.agent) == ("demo", 77, "main")
    assert 300 < settled.call.max_input < 3000


async def test_usage_is_estimated_where_the_vendor_gives_none(rig: Rig) -> None:
    await rig.play(ScriptedProvider([Play("x" * 400, usage=None)]))
    usage, outcome, estimated = rig.meter.calls[0].endings[0]
    assert (usage.output, outcome, estimated) == (100, "ok", True)
    assert 75 <= usage.input <= 200


async def test_the_next_model_is_asked_where_the_first_says_nothing(rig: Rig) -> None:
    provider = ScriptedProvider([Play(error=BROKEN), Play("from the second")])
    events = await rig.play(provider, "demo", "second")
    assert [r.model for r in provider.requests] == ["demo", "second"]
    assert rig.meter.outcomes == ["error", "ok"]
    assert rig.meter.calls[0].endings[0][0] == TokenCounts()
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert notices == ["The vendor is broken. Going on with second."]
    assert isinstance(events[-1], CallEnd)
    assert events[-1].candidate.name == "second"
    bare = UpstreamError("Provider 'a' answered 500: boom", status=500)
    events = await rig.play(ScriptedProvider([Play(error=bare), Play("from the second")]), "demo", "second")
    told = "\n".join(event.text for event in events if isinstance(event, Notice))
    assert "answered 500: boom. Going on with second." in told


@pytest.mark.parametrize(
    ("play", "names", "outcomes", "used"),
    [
        (Play(error=BROKEN), ("demo",), ["error"], False),
        (Play("abcdefgh", error=BROKEN, error_after=1), ("demo", "second"), ["cut"], True),
        (Play(error=UpstreamTimeout("late")), ("demo",), ["error"], True),
        (Play(error=InvalidRequest("no")), ("demo", "second"), ["error"], False),
    ],
    ids=["refused", "cut", "late", "invalid"],
)
async def test_a_failure_is_settled_and_raised(
    rig: Rig, play: Play, names: tuple[str, ...], outcomes: list[str], used: bool
) -> None:
    with pytest.raises((UpstreamError, InvalidRequest)):
        await rig.play(ScriptedProvider([play]), *names)
    assert rig.meter.outcomes == outcomes
    usage, _, estimated = rig.meter.calls[0].endings[0]
    assert (usage.total > 0, estimated) == (used, used)
    assert len(rig.ends) == len(outcomes)


async def test_what_was_said_before_a_cut_is_kept(rig: Rig) -> None:
    with pytest.raises(UpstreamError):
        await rig.play(ScriptedProvider([Play("abcdefgh", error=BROKEN, error_after=1)]))
    assert rig.ends[0].message == Message("assistant", (Text("abcd"),))


async def test_an_answer_without_an_end_is_an_error(rig: Rig) -> None:
    class Endless(ScriptedProvider):
        async def stream(self, request: ModelRequest) -> AsyncIterator[TextDelta]:  # type: ignore[override] # no end
            yield TextDelta("a")

    with pytest.raises(UpstreamError, match="too early"):
        await rig.play(Endless())
    assert rig.meter.outcomes == ["cut"]


@pytest.mark.parametrize(
    ("play", "outcome"),
    [
        (Play("abcdefgh", error=BROKEN, error_after=1, served="priority"), "cut"),
        (Play("abcd", usage=None, served="priority"), "ok"),
        (Play("abcd", served="priority"), "ok"),
        (Play(error=UpstreamTimeout("late"), served="priority"), "error"),
    ],
    ids=["cut", "no usage", "a usage", "late"],
)
async def test_one_that_breaks_off_is_settled_at_the_tier_that_its_vendor_named(
    rig: Rig, play: Play, outcome: str
) -> None:
    with contextlib.suppress(UpstreamError):
        await rig.play(ScriptedProvider([play]))
    assert "Served" not in rig.log
    usage, ended, _ = rig.meter.calls[0].endings[0]
    assert (usage.served, ended) == ("priority", outcome)


async def test_one_that_is_closed_is_settled_at_it_too_and_one_without_a_word_is_free(rig: Rig) -> None:
    provider = ScriptedProvider([Play("abcdefgh", hold=True, error_after=2, served="priority")])
    async with closing(rig.calls(provider).stream(rig.ask())) as stream:
        assert await anext(stream) == TextDelta("abcd")
    assert (rig.meter.calls[0].endings[0][0].served, rig.meter.outcomes) == ("priority", ["cancelled"])
    with pytest.raises(UpstreamError):
        await rig.play(ScriptedProvider([Play(error=BROKEN, served="priority")]))
    assert rig.meter.calls[1].endings[0] == (TokenCounts(), "error", False)


async def test_closing_it_cancels_upstream_and_settles(rig: Rig) -> None:
    provider = ScriptedProvider([Play("abcdefgh", hold=True, error_after=2)])
    async with closing(rig.calls(provider).stream(rig.ask())) as stream:
        assert await anext(stream) == TextDelta("abcd")
    assert (provider.open_calls, provider.closed_early) == (0, 1)
    assert rig.meter.outcomes == ["cancelled"]
    assert rig.ends[0].message == Message("assistant", (Text("abcd"),))
    assert rig.meter.calls[0].endings[0][2] is True


async def test_cancelling_the_task_does_so_too(rig: Rig) -> None:
    provider = ScriptedProvider([Play("abcd", hold=True, error_after=1)])
    task = asyncio.ensure_future(rig.play(provider))
    await provider.holding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert provider.open_calls == 0
    assert rig.meter.outcomes == ["cancelled"]


async def test_what_cannot_be_accepted_is_not_asked(rig: Rig) -> None:
    rig.refuse_accept = True
    provider = ScriptedProvider()
    with pytest.raises(StorageFull):
        await rig.play(provider, "demo", "second")
    assert provider.requests == []
    assert [(c.endings[0][0], c.endings[0][1]) for c in rig.meter.calls] == [(TokenCounts(), "error")]


async def test_a_ledger_that_is_full_lets_no_end_be_told(rig: Rig) -> None:
    rig.meter.settle_failure = StorageFull("full")
    with pytest.raises(StorageFull):
        await rig.play(ScriptedProvider())
    assert "CallEnd" not in rig.log
    assert rig.log[-1] == "ended ok"
    assert rig.meter.outcomes == ["ok"]


async def test_a_call_that_does_not_begin_is_made_twice_and_both_are_settled(rig: Rig) -> None:
    provider = ScriptedProvider([Play("first", hold=True), Play("second", calls=(call("shell"),))])
    provider.hedging = Hedge(0.001, lambda: True, rig.tasks)
    events = await rig.play(provider)
    assert rig.log.count("accepted") == 1
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "second"
    assert sorted(rig.meter.outcomes) == ["cancelled", "ok"]
    lost = rig.meter.calls[0].endings[0]
    assert lost[0].input > 0, "its prompt was sent"
    assert (lost[0].output, lost[1], lost[2]) == (0, "cancelled", True)
    assert {(end.outcome, end.message is None) for end in rig.ends} == {("cancelled", True), ("ok", False)}
    assert (provider.open_calls, provider.closed_early) == (0, 1)


async def test_both_of_a_hedged_call_fail_and_the_next_model_is_asked(rig: Rig) -> None:
    went = asyncio.Event()

    class Both(ScriptedProvider):
        async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
            self.requests.append(request)
            if len(self.requests) == 2:
                went.set()
            if len(self.requests) < 3:
                await went.wait()
                raise BROKEN
            yield Finished(Message("assistant", (Text("third"),)), "end", USED)

    provider = Both()
    provider.hedging = Hedge(0.001, lambda: True, rig.tasks)
    events = await rig.play(provider, "demo", "second")
    assert [request.model for request in provider.requests] == ["demo", "demo", "second"]
    assert rig.meter.outcomes == ["error", "error", "ok"]
    assert isinstance(events[-1], CallEnd)
