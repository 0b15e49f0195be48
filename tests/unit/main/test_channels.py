"""Questions of channels as turns."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carrel.agents.sends import Sends
from carrel.channels.answering import Question
from carrel.errors import ModelNotFound, QuotaExceeded
from carrel.ids import RequestId
from carrel.main.channels import GAUGES, Conversations, gauges
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from tests.fakes.agents import house
from tests.fakes.channels import channel_house, telegram
from tests.fakes.engines import FakeAdmission
from tests.fakes.patience import eventually
from tests.fakes.telegram import running_bot_api

HELLO = Question(None, "telegram/main/dm/42", "hello", "Be plain.", RequestId("req_" + "a" * 24), again=False)


async def test_each_key_is_a_session_and_an_answer_is_not_asked_for_twice(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        tasks, admission = Tasks("test"), FakeAdmission()
        talk = Conversations(sends=Sends(home.agents, tasks=tasks), sessions=home.sessions, meter=admission)
        answer = await talk.answer(home.tenant, home.snapshot, HELLO)
        assert answer
        calls = len(home.meter.calls)
        admission.refusal = QuotaExceeded(
            "x", quota="requests_per_minute", retry_after=1, reset_at=datetime(2026, 1, 1, tzinfo=UTC)
        )
        assert await talk.answer(home.tenant, home.snapshot, replace(HELLO, again=True)) == answer
        assert len(home.meter.calls) == calls
        with pytest.raises(QuotaExceeded):
            await talk.answer(home.tenant, home.snapshot, replace(HELLO, key="telegram/main/dm/43"))
        admission.refusal = None
        await talk.answer(home.tenant, home.snapshot, replace(HELLO, key="telegram/main/dm/43"))
        assert len(await home.sessions.list(home.tenant)) == 2
        await talk.reset(home.tenant, None, HELLO.key)
        assert len(await home.sessions.list(home.tenant)) == 2
        with pytest.raises(ModelNotFound):
            await talk.answer(home.tenant, home.snapshot, replace(HELLO, agent="nobody"))
        await tasks.close()


async def test_accounts_are_gauges_by_how_they_stand(tmp_path: Path) -> None:
    metrics = Metrics(most_tenants=0)
    with running_bot_api() as api:
        async with channel_house(tmp_path, api, telegram(dm_policy="open")) as running:
            metrics.read_from(GAUGES, lambda: gauges(running.channels, metrics))
            connected = 'carrel_channel_accounts{channel="telegram",state="connected",tenant="_other"} 1.0'
            await eventually(lambda: connected in metrics.render().decode())
