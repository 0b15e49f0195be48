"""Responses that are made while nobody waits: noted, followed, ended, and what a dead gateway leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carrel.errors import InvalidRequest, NotFound, RateLimited, UpstreamError
from carrel.responses import service
from carrel.responses.book import Json, Kept
from carrel.responses.service import LOOK_SECONDS, Responses, Run
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.patience import eventually
from tests.fakes.tenants import make_snapshot, make_tenant

CLOCK, DIRECTORY = FakeClock(), Directory()


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    return make_tenant(tmp_path, "acme")


@asynccontextmanager
async def running() -> AsyncIterator[Responses]:
    tasks, settling = Tasks("responses"), Tasks("settling")
    responses = Responses(clock=CLOCK, directory=DIRECTORY, tasks=tasks, settling=settling)
    try:
        yield responses
    finally:
        await tasks.close()
        await settling.close()
        await responses.close()


def kept(response_id: str, status: str = "queued", **more: Any) -> Kept:
    body = {"id": response_id, "status": status, "background": True, "output": []}
    return Kept(**{"body": body, "items": (), "created": CLOCK.now(), **more})


async def held(run: Run) -> Json:
    run.note({"type": "response.created", "sequence_number": 0})
    await asyncio.get_running_loop().create_future()
    return {}


async def test_it_is_made_followed_and_kept(tenant: Tenant) -> None:
    async def work(run: Run) -> Json:
        for number in range(3):
            run.note({"type": "x", "sequence_number": number})
            await asyncio.sleep(0)
        return run.kept.body | {"status": "completed"}

    async with running() as responses:
        run = await responses.start(tenant, kept("r"), work)
        assert [event["sequence_number"] async for event in run.follow(0)] == [1, 2]
        done = await responses.get(tenant, "r")
        assert (done.status, len(done.events)) == ("completed", 3)
        assert responses.running(tenant, "r") is None


async def test_one_that_ends_while_it_is_read_is_told_as_it_ended(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    async def work(run: Run) -> Json:
        await go.wait()
        return run.kept.body | {"status": "completed"}

    async with running() as responses:
        go = asyncio.Event()
        run = await responses.start(tenant, kept("r"), work)
        inner, reads = responses._databases.run, 0

        async def read(*asked: Any) -> Any:
            nonlocal reads
            found = await inner(*asked)
            if isinstance(found, Kept):
                reads += 1
                if not go.is_set():
                    go.set()
                    assert run.task is not None
                    await asyncio.wait([run.task])
            return found

        monkeypatch.setattr(responses._databases, "run", read)
        assert ((await responses.get(tenant, "r")).status, reads) == ("completed", 2)
        assert (await responses.get(tenant, "r")).status == "completed", "nor was that written over"


async def test_what_fails_says_why_and_nothing_of_a_fault_of_ours(tenant: Tenant) -> None:
    async def refused(run: Run) -> Json:
        run.note({"type": "response.created", "sequence_number": 0})
        raise UpstreamError("It is down.")

    async def broken(run: Run) -> Json:
        raise ZeroDivisionError("secret path")

    async with running() as responses:
        for name, work, said in (("a", refused, "It is down."), ("b", broken, "The gateway failed; its operator")):
            run = await responses.start(tenant, kept(name), work)
            events = [event async for event in run.follow(-1)]
            failed = await responses.get(tenant, name)
            assert (failed.status, failed.body["error"]["code"]) == ("failed", "server_error")
            assert failed.body["error"]["message"].startswith(said)
            assert [event["type"] for event in events] == (
                ["response.created", "response.failed"] if name == "a" else []
            )


async def test_it_is_cancelled_or_removed_while_it_is_made(tenant: Tenant) -> None:
    async with running() as responses:
        run = await responses.start(tenant, kept("a"), held)
        assert (await responses.get(tenant, "a")).status == "queued"
        with pytest.raises(InvalidRequest, match="not ended"):
            await responses.conversation(tenant, "a")
        assert (await responses.cancel(tenant, "a")).status == "cancelled"
        assert run.over
        assert (await responses.cancel(tenant, "a")).status == "cancelled"
        await responses.start(tenant, kept("b"), held)
        await responses.remove(tenant, "b")
        with pytest.raises(NotFound):
            await responses.get(tenant, "b")


async def test_it_ends_where_its_tenant_is_suspended(tenant: Tenant) -> None:
    async with running() as responses:
        DIRECTORY.publish(make_snapshot(tenant))
        run = await responses.start(tenant, kept("r"), held)
        await asyncio.sleep(0)
        CLOCK.advance(LOOK_SECONDS)
        await asyncio.sleep(0)
        assert not run.over
        DIRECTORY.publish(make_snapshot(replace(tenant, suspended=True)))
        CLOCK.advance(LOOK_SECONDS)
        await eventually(lambda: run.over)
        assert (await responses.get(tenant, "r")).status == "cancelled"


async def test_what_was_made_by_a_gateway_that_died_failed(tenant: Tenant) -> None:
    async with running() as before:
        await before.keep(tenant, kept("r", "in_progress"))
        await before.keep(tenant, kept("done", "completed"))
    async with running() as after:
        found = await after.get(tenant, "r")
        assert (found.status, found.body["error"]["code"]) == ("failed", "server_error")
        assert (await after.get(tenant, "done")).status == "completed"


async def test_so_many_at_a_time_and_no_more(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RUNNING", 1)
    async with running() as responses:
        await responses.start(tenant, kept("a"), held)
        with pytest.raises(RateLimited):
            await responses.start(tenant, kept("b"), held)
        await responses.cancel(tenant, "a")
        await responses.start(tenant, kept("b"), held)


async def test_a_conversation_that_is_not_there(tenant: Tenant) -> None:
    async with running() as responses:
        with pytest.raises(InvalidRequest) as refused:
            await responses.conversation(tenant, "nope")
        assert refused.value.param == "previous_response_id"
