import asyncio
import threading
from typing import Any

import aiohttp
import pytest

from carrel.http import openapi
from carrel.http.made_once import MadeOnce
from carrel.http.rpc import discover
from carrel.http.rpc.registry import Registry
from tests.fakes.edge import Edge


async def test_of_two_first_callers_both_have_what_one_made_and_the_loop_goes_on() -> None:
    made, let, makers = MadeOnce[object](), threading.Event(), []

    def make() -> object:
        makers.append(threading.current_thread())
        # Only a loop that goes on lets it.
        assert let.wait(30)
        return object()

    both = asyncio.gather(made.get(make), made.get(make))
    await asyncio.sleep(0)
    let.set()
    first, second = await both
    assert first is second is await made.get(make)
    assert len(makers) == 1
    assert makers[0] is not threading.current_thread()


async def test_what_could_not_be_made_is_made_when_it_is_asked_for_again() -> None:
    made = MadeOnce[str]()

    def fail() -> str:
        raise ValueError("not yet")

    with pytest.raises(ValueError, match="not yet"):
        await made.get(fail)
    assert await made.get(lambda: "made") == "made"


async def test_the_document_of_all_routes_is_no_work_of_the_loops(
    edge: Edge, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    makers, real = [], openapi.document

    def document(*given: Any, **named: Any) -> dict[str, Any]:
        makers.append(threading.current_thread())
        return real(*given, **named)

    monkeypatch.setattr(openapi, "document", document)
    told = []
    for _ in range(2):
        async with client.get(edge.url + "/openapi.json") as reply:
            assert reply.content_type == "application/json"
            told.append(await reply.json())
    assert told[0] == told[1]
    assert [one is threading.current_thread() for one in makers] == [False]


async def test_the_document_of_all_methods_is_no_work_of_the_loops(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    makers, real = [], discover.document

    def document(*given: Any, **named: Any) -> discover.OpenRpc:
        makers.append(threading.current_thread())
        return real(*given, **named)

    monkeypatch.setattr(discover, "document", document)
    registry = Registry()
    discover.register(registry)
    [method] = registry
    context: Any = type("Context", (), {"services": edge.services})
    first = await method.call(context, None)
    assert await method.call(context, None) is first
    assert [one is threading.current_thread() for one in makers] == [False]
