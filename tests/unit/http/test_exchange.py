"""One request on its way through."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from carrel.clock import SystemClock
from carrel.errors import Forbidden, NotFound, Unauthorized, Unavailable
from carrel.http.attempts import FailedAttempts
from carrel.http.auth import Authenticator, OperatorCaller
from carrel.http.browser_sessions import BrowserSessions
from carrel.http.exchange import Exchange
from carrel.http.services import Limits
from carrel.ids import RequestId
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory
from tests.fakes.edge import ADMIN_KEY, TokenBook, edge_snapshot, token_of
from tests.fakes.patience import eventually
from tests.fakes.tenants import make_tenant


class Maker:
    """Makes exchanges with any headers and path."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        tokens = TokenBook()
        tokens.add(token_of("acme"), "acme")
        clock = SystemClock()
        self.auth = Authenticator(
            directory=directory, tokens=tokens, clock=clock, attempts=FailedAttempts(clock, limit=9, window=9)
        )
        self.tasks = Tasks("test")

    def exchange(self, token: str = "", *, tenant: str = "acme", control: bool = False) -> Exchange:
        headers = CIMultiDict({"Authorization": f"Bearer {token}"} if token else {})
        request: Any = SimpleNamespace(
            headers=CIMultiDictProxy(headers), path="/x", remote="192.0.2.1", match_info={"id": tenant},
            get_extra_info=lambda name: None,
        )  # fmt: skip
        services: Any = SimpleNamespace(directory=self.directory, meter=SimpleNamespace(soft_passed=lambda tenant: ()))
        live: Any = SimpleNamespace(caller=None)
        browsers = BrowserSessions(SystemClock())
        return Exchange(request, RequestId("r"), services, Limits(), self.auth, self.tasks, live, browsers, control)


@pytest.fixture
async def maker(tmp_path: Path) -> AsyncIterator[Maker]:
    tenants = [make_tenant(tmp_path, "acme"), make_tenant(tmp_path, "bravo")]
    directory = Directory()
    directory.publish(edge_snapshot(*tenants))
    made = Maker(directory)
    yield made
    await made.tasks.close()
    for tenant in tenants:
        tenant.root.close()


async def test_nothing_declared_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        _ = Maker(Directory()).exchange().snapshot


async def test_a_request_keeps_the_revision_it_began_with(maker: Maker) -> None:
    exchange = maker.exchange()
    first = exchange.snapshot
    maker.directory.publish(edge_snapshot())
    assert exchange.snapshot is first


async def test_a_peer_of_the_control_socket_is_an_operator_unless_it_brings_a_credential(maker: Maker) -> None:
    assert isinstance(maker.exchange(control=True).authenticate(), OperatorCaller)
    assert maker.exchange(token_of("acme"), control=True).tenant("rpc").tenant.id == "acme"
    with pytest.raises(Unauthorized):
        maker.exchange("nonsense", control=True).authenticate()


async def test_the_caller_is_handed_to_who_looks_after_live_requests(maker: Maker) -> None:
    exchange = maker.exchange(token_of("acme"))
    caller = exchange.tenant("chat")
    assert exchange.live.caller is caller
    assert exchange.tenant_id == "acme"


async def test_the_paths_tenant_is_an_operators_or_ones_own(maker: Maker) -> None:
    assert maker.exchange(ADMIN_KEY, tenant="bravo").subject_or_self().id == "bravo"
    assert maker.exchange(token_of("acme"), tenant="acme").subject_or_self().id == "acme"
    said = set()
    for other in ("bravo", "nobody", "NO ID", ".."):
        with pytest.raises(NotFound) as caught:
            maker.exchange(token_of("acme"), tenant=other).subject_or_self()
        said.add(caught.value.message)
    assert len(said) == 1
    with pytest.raises(NotFound):
        maker.exchange(ADMIN_KEY, tenant="nobody").subject()
    with pytest.raises(Forbidden):
        maker.exchange(token_of("acme")).operator("tenants:read")


async def test_a_change_goes_to_its_end_when_its_caller_leaves(maker: Maker) -> None:
    exchange = maker.exchange()
    done: list[int] = []

    async def change() -> int:
        await asyncio.sleep(0.05)
        done.append(1)
        return 7

    assert await exchange.finish(change(), name="change") == 7
    leaving = asyncio.ensure_future(exchange.finish(change(), name="change"))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await eventually(lambda: done == [1, 1])
