"""Who may enter by which access."""

import re
from typing import Any, get_args

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from carrel.declare.admin_keys import AdminScope
from carrel.errors import CarrelError, Forbidden
from carrel.http.app import all_routes
from carrel.http.auth import OperatorCaller
from carrel.http.routes import EXCHANGE, Access, Endpoint, Route, admit
from tests.fakes.edge import Edge, bearer, token_of


async def _nothing(exchange: object) -> Any:
    raise NotImplementedError


class Asked:
    """An exchange that notes what was asked of it."""

    def __init__(self, *, control: bool = False, address: str = "192.0.2.1") -> None:
        self.control, self.address = control, address
        self.asked: list[str] = []
        self.limit: tuple[str, ...] | None = None

    def tenant(self, scope: str) -> None:
        self.asked.append(f"tenant {scope}")

    def tenant_with(self, *scopes: str) -> None:
        self.asked.append(f"tenant {' or '.join(scopes)}")

    ticket = None

    def require_own_page(self, *, needed: bool) -> None:
        self.asked.append("page" if needed else "page, if any")

    def operator(self, scope: AdminScope) -> OperatorCaller:
        self.asked.append(f"operator {scope}")
        return OperatorCaller("ops", tenants=self.limit)

    def authenticate(self) -> OperatorCaller:
        return OperatorCaller("ops")

    def subject(self) -> None:
        self.asked.append("subject")


@pytest.mark.parametrize(
    ("access", "asked"),
    [
        ("public", []), ("scrape", ["operator metrics:read"]), ("tenant-chat", ["tenant chat"]),
        ("tenant-rpc", ["tenant rpc"]),
        ("tenant-ws", ["page, if any", "tenant rpc or node"]), ("browser", []),
        ("operator-ws", ["page, if any", "operator act"]),
        *((scope, [f"operator {scope}"]) for scope in get_args(AdminScope)),
    ],
)  # fmt: skip
def test_each_access_asks_for_its_caller(access: Access, asked: list[str]) -> None:
    exchange: Any = Asked()
    admit(exchange, Route("GET", "/x", _nothing, access, "A test."))
    assert exchange.asked == asked


def test_all_accesses_are_covered_here() -> None:
    assert len(get_args(Access)) == 7 + len(get_args(AdminScope))


def test_a_limited_key_is_asked_for_the_tenant_in_the_path_and_gets_nothing_of_all() -> None:
    exchange: Any = Asked()
    exchange.limit = ("acme",)
    admit(exchange, Route("GET", "/v1/tenants/{id}", _nothing, "tenants:read", "A test."))
    assert exchange.asked == ["operator tenants:read", "subject"]
    with pytest.raises(Forbidden, match="limited to some tenants"):
        admit(exchange, Route("GET", "/v1/plan", _nothing, "gateway:read", "A test."))
    admit(exchange, Route("GET", "/v1/tenants", _nothing, "tenants:read", "A test.", narrows=True))


def test_metrics_need_no_key_on_loopback_and_on_the_control_socket() -> None:
    for near in (Asked(address="127.0.0.1"), Asked(address="::1"), Asked(control=True, address="-")):
        exchange: Any = near
        admit(exchange, Route("GET", "/x", _nothing, "scrape", "A test."))
        assert exchange.asked == []


async def test_a_handler_is_not_reached_by_who_may_not() -> None:
    reached: list[object] = []

    class Refusing(Asked):
        def operator(self, scope: AdminScope) -> OperatorCaller:
            raise CarrelError("no")

    async def handler(exchange: object) -> Any:
        reached.append(exchange)

    exchange: Any = Refusing()
    guarded = Endpoint(Route("GET", "/x", handler, "tenants:read", "A test."))
    request: Any = make_mocked_request("GET", "/x")
    request[EXCHANGE] = exchange
    with pytest.raises(CarrelError):
        await guarded(request)
    assert not reached
    assert exchange.route == "/x"


def test_a_caller_of_anthropics_api_is_answered_in_that_dialect_where_both_are_served() -> None:
    async def handler(exchange: object) -> Any:
        raise NotImplementedError

    both = Route("GET", "/x", handler, "tenant-chat", "A test.", dialect="openai", by_version=True)
    one = Route("GET", "/x", handler, "tenant-chat", "A test.", dialect="openai")
    assert both.dialect_for({"anthropic-version": "2023-06-01"}) == "anthropic"
    assert both.dialect_for({}) == "openai"
    assert one.dialect_for({"anthropic-version": "2023-06-01"}) == "openai"


def _for_tenants() -> list[Any]:
    """Routes that a tenant's token enters by; what is passed on to an MCP server is counted where that is done."""
    mine = [route for route in all_routes(lambda: None) if route.access in ("tenant-chat", "tenant-rpc") or route.own]
    return [pytest.param(it, id=f"{it.method} {it.path}") for it in mine if not it.path.startswith("/mcp/")]


@pytest.mark.parametrize("route", _for_tenants())
async def test_what_a_tenant_asks_for_is_one_request_to_its_quotas(
    edge: Edge, client: aiohttp.ClientSession, route: Route
) -> None:
    path = re.sub(r"\{[^}]+\}", "none", route.path.replace("{id}", "acme"))
    before = edge.meter.admitted
    async with client.request(route.method, edge.url + path, headers=bearer(token_of("acme")), data=b"{}") as reply:
        await reply.read()
    assert edge.meter.admitted == before + 1, reply.status
