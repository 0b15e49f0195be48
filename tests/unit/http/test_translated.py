"""Model calls that are translated for another dialect."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp

from carrel.declare.allowlists import Allowlists
from carrel.declare.rate_card import Tier, TokenCounts
from carrel.errors import UpstreamError
from carrel.providers.hedged import Hedge
from carrel.tasks import Tasks
from carrel.wire.conversation import Finished, Message, ModelRequest, ProviderEvent, Served, Text, TextDelta
from tests.fakes.edge import Edge, OneProvider, bearer, chat_body, running_edge, token_of
from tests.fakes.patience import eventually

ACME = bearer(token_of("acme"))
PATH = "/v1/chat/completions"


class Scripted:
    """A provider that does as told."""

    name = "demo"

    def __init__(self, *, fail: UpstreamError | None = None, after: int = 2, usage: TokenCounts | None = None,
                 hang: bool = False, served: Tier | None = None) -> None:  # fmt: skip
        self.fail, self.after, self.usage, self.hang, self.served = fail, after, usage, hang, served
        self.closed = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[ProviderEvent]:
        try:
            if self.served is not None:
                yield Served(self.served)
            for _ in range(self.after):
                yield TextDelta("four")
            if self.hang:
                await asyncio.sleep(60)
            if self.fail is not None:
                raise self.fail
            yield Finished(Message("assistant", (Text("four" * self.after),)), "end", self.usage, "vendor-1")
        finally:
            self.closed += 1

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_call_is_reserved_and_settled_before_its_end(edge: Edge, client: aiohttp.ClientSession) -> None:
    for stream in (False, True):
        body = chat_body("hi", model="demo", stream=stream, max_tokens=500, stream_options={"include_usage": True})
        async with client.post(edge.url + PATH, data=body, headers=ACME) as reply:
            text = await reply.text()
        assert reply.status == 200
        reservation = edge.meter.reservations[-1]
        assert reservation.call.max_output == 500
        assert reservation.call.request_id == reply.headers["X-Request-Id"]
        [(usage, outcome, estimated)] = reservation.settled
        assert (outcome, estimated) == ("ok", False)
        assert f'"completion_tokens":{usage.output}' in text.replace(" ", "")


async def test_what_the_vendor_does_not_say_is_estimated(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    async with running_edge(tmp_path, providers=OneProvider(Scripted())) as edge:
        async with client.post(edge.url + PATH, data=chat_body("hi", model="demo"), headers=ACME) as reply:
            assert reply.status == 200
        [(usage, outcome, estimated)] = edge.meter.reservations[0].settled
        assert (usage.output, outcome, estimated) == (2, "ok", True)
        assert usage.input > 0


async def test_a_refusal_before_the_first_byte_is_free(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    provider = Scripted(fail=UpstreamError("no", status=400), after=0)
    async with running_edge(tmp_path, providers=OneProvider(provider)) as edge:
        for stream in (False, True):
            body = chat_body("hi", model="demo", stream=stream)
            async with client.post(edge.url + PATH, data=body, headers=ACME) as reply:
                assert reply.status == 400
            [(usage, outcome, _)] = edge.meter.reservations[-1].settled
            assert (usage.total, outcome) == (0, "error")


async def test_a_cut_stream_is_settled_for_what_came(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    provider = Scripted(fail=UpstreamError("broke off"), after=3)
    async with running_edge(tmp_path, providers=OneProvider(provider)) as edge:
        body = chat_body("hi", model="demo", stream=True)
        async with client.post(edge.url + PATH, data=body, headers=ACME) as reply:
            text = await reply.text()
        assert reply.status == 200
        assert json.loads(text.strip().splitlines()[-1][6:])["error"]["code"] == "upstream_error"
        [(usage, outcome, estimated)] = edge.meter.reservations[0].settled
        assert (usage.output, outcome, estimated) == (3, "cut", True)


async def test_a_caller_that_goes_away_is_settled_as_cancelled(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    provider = Scripted(hang=True)
    async with running_edge(tmp_path, providers=OneProvider(provider)) as edge:
        body = chat_body("hi", model="demo", stream=True)
        async with client.post(edge.url + PATH, data=body, headers=ACME) as reply:
            await reply.content.readline()
            reply.close()
        await eventually(lambda: edge.meter.reservations[0].settled)
        [(usage, outcome, estimated)] = edge.meter.reservations[0].settled
        assert (usage.output, outcome, estimated) == (2, "cancelled", True)
        assert provider.closed == 1


async def test_one_that_breaks_off_is_settled_at_the_tier_that_its_vendor_named(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    for provider, outcome in (
        (Scripted(served="priority", fail=UpstreamError("broke off")), "cut"), (Scripted(served="priority"), "ok"),
        (Scripted(served="priority", usage=TokenCounts(3, output=2)), "ok"),
        (Scripted(served="priority", hang=True), "cancelled"),
    ):  # fmt: skip
        async with running_edge(tmp_path / str(id(provider)), providers=OneProvider(provider)) as edge:
            body = chat_body("hi", model="demo", stream=True)
            async with client.post(edge.url + PATH, data=body, headers=ACME) as reply:
                if provider.hang:
                    await reply.content.readline()
                    reply.close()
                else:
                    assert "four" in await reply.text()
            await eventually(edge.meter.reservations[0].settled.copy)
            [(usage, ended, _)] = edge.meter.reservations[0].settled
            assert (usage.served, ended) == ("priority", outcome)


async def test_one_that_names_its_tier_and_no_word_of_an_answer_is_free(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    provider = Scripted(served="priority", fail=UpstreamError("no", status=400), after=0)
    async with running_edge(tmp_path, providers=OneProvider(provider)) as edge:
        async with client.post(edge.url + PATH, data=chat_body("hi", model="demo"), headers=ACME) as reply:
            assert reply.status == 400
        [(usage, outcome, _)] = edge.meter.reservations[0].settled
        assert (usage.total, outcome) == (0, "error")


class Named(Scripted):
    """Its first call names its tier, and says nothing else."""

    calls = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[ProviderEvent]:
        self.calls += 1
        if self.calls == 1:
            yield Served("priority")
            await asyncio.get_running_loop().create_future()
        async for event in Scripted.stream(self, request):
            yield event


async def test_a_call_that_has_named_its_tier_alone_has_not_begun(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    tasks = Tasks("hedges")
    async with running_edge(tmp_path, providers=(one := OneProvider(Named(usage=TokenCounts(3, output=2))))) as edge:
        one.hedging = Hedge(0.001, lambda: True, tasks)
        async with client.post(edge.url + PATH, data=chat_body("hi", model="demo"), headers=ACME) as reply:
            assert "four" in await reply.text()
        lost, won = (reservation.settled[0] for reservation in edge.meter.reservations)
        assert (lost[1], lost[0].served, won[1], won[0].served) == ("cancelled", "priority", "ok", None)
    await tasks.close()


async def test_a_model_that_is_not_allowed(edge: Edge, client: aiohttp.ClientSession) -> None:
    edge.directory.publish(replace(edge.directory.current, allowlists=Allowlists(models=("vendor*",))))
    async with client.post(edge.url + PATH, data=chat_body("hi", model="demo"), headers=ACME) as reply:
        assert reply.status == 403
        assert (await reply.json())["error"]["code"] == "model_not_allowed"
    assert not edge.meter.reservations


async def test_what_the_dialect_cannot_say_is_refused_before_anything_is_reserved(
    edge: Edge, client: aiohttp.ClientSession
) -> None:
    async with client.post(edge.url + PATH, data=chat_body("hi", model="demo", n=3), headers=ACME) as reply:
        assert reply.status == 400
        assert (await reply.json())["error"]["param"] == "n"
    assert not edge.meter.reservations


async def test_of_a_usage_that_lacks_half_the_rest_is_estimated_and_told(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    for said, told in ((TokenCounts(output=7), 7), (TokenCounts(), 2), (None, 2)):
        async with (
            running_edge(tmp_path, providers=OneProvider(Scripted(usage=said))) as edge,
            client.post(edge.url + PATH, data=chat_body("hi", model="demo"), headers=ACME) as reply,
        ):
            usage = (await reply.json())["usage"]
        [(settled, outcome, estimated)] = edge.meter.reservations[0].settled
        assert (settled.output, outcome, estimated) == (told, "ok", True)
        assert usage["prompt_tokens"] == settled.input > 0, "the caller is told what is charged"
        assert usage["completion_tokens"] == told


class Slow(Scripted):
    """Its first call says nothing."""

    calls = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[ProviderEvent]:
        self.calls += 1
        if self.calls == 1:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.closed += 1
        async for event in Scripted.stream(self, request):
            yield event


async def test_a_call_that_does_not_begin_is_made_twice_and_both_are_in_the_ledger(
    tmp_path: Path, client: aiohttp.ClientSession
) -> None:
    tasks = Tasks("hedges")
    for stream in (False, True):
        provider = Slow(usage=TokenCounts(input=9, output=2))
        async with running_edge(tmp_path / str(stream), providers=(one := OneProvider(provider))) as edge:
            one.hedging = Hedge(0.001, lambda: True, tasks)
            body = chat_body("hi", model="demo", stream=stream)
            async with client.post(edge.url + PATH, data=body, headers=ACME) as reply:
                assert "four" in await reply.text()
            lost, won = (reservation.settled for reservation in edge.meter.reservations)
            assert [(outcome, estimated) for _, outcome, estimated in (*lost, *won)] == [
                ("cancelled", True), ("ok", False)
            ]  # fmt: skip
            assert lost[0][0].input > 0
            assert provider.closed == 2
    await tasks.close()
