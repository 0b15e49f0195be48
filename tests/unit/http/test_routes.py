"""Who may enter by which access."""

from typing import Any, get_args

import pytest
from aiohttp.test_utils import make_mocked_request

from carrel.errors import CarrelError
from carrel.http.routes import EXCHANGE, Access, Endpoint, Route, admit


class Asked:
    """An exchange that notes what was asked of it."""

    def __init__(self, *, control: bool = False, address: str = "192.0.2.1") -> None:
        self.control, self.address = control, address
        self.asked: list[str] = []

    def tenant(self, scope: str) -> None:
        self.asked.append(f"tenant {scope}")

    def tenant_with(self, *scopes: str) -> None:
        self.asked.append(f"tenant {' or '.join(scopes)}")

    ticket = None

    def require_own_page(self, *, needed: bool) -> None:
        self.asked.append("page" if needed else "page, if any")

    def operator(self, scope: str) -> None:
        self.asked.append(f"operator {scope}")

    def reader_of_subject(self) -> None:
        self.asked.append("reader")


@pytest.mark.parametrize(
    ("access", "asked"),
    [
        ("public", []), ("scrape", ["operator read"]), ("tenant-chat", ["tenant chat"]),
        ("tenant-rpc", ["tenant rpc"]),
        ("tenant-ws", ["page, if any", "tenant rpc or node"]), ("browser", []),
        ("operator-ws", ["page, if any", "operator write"]), ("operator-read", ["operator read"]),
        ("operator-write", ["operator write"]), ("reader", ["reader"]),
    ],
)  # fmt: skip
def test_each_access_asks_for_its_caller(access: Access, asked: list[str]) -> None:
    exchange: Any = Asked()
    admit(exchange, access)
    assert exchange.asked == asked


def test_all_accesses_are_covered_here() -> None:
    assert len(get_args(Access)) == 10


def test_metrics_need_no_key_on_loopback_and_on_the_control_socket() -> None:
    for near in (Asked(address="127.0.0.1"), Asked(address="::1"), Asked(control=True, address="-")):
        exchange: Any = near
        admit(exchange, "scrape")
        assert exchange.asked == []


async def test_a_handler_is_not_reached_by_who_may_not() -> None:
    reached: list[object] = []

    class Refusing(Asked):
        def operator(self, scope: str) -> None:
            raise CarrelError("no")

    async def handler(exchange: object) -> Any:
        reached.append(exchange)

    exchange: Any = Refusing()
    guarded = Endpoint(Route("GET", "/x", handler, "operator-read", "A test."))
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
