"""The pages of the control plane's lists."""

from typing import Any

import aiohttp
import pytest

from carrel.http.app import all_routes
from carrel.http.routes import Route
from tests.fakes.edge import ADMIN_KEY, Edge, bearer


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit=%D9%A1", "cursor=%00"])
async def test_what_is_no_page_is_refused(edge: Edge, client: aiohttp.ClientSession, query: str) -> None:
    async with client.get(f"{edge.url}/v1/quota-requests?{query}", headers=bearer(ADMIN_KEY)) as reply:
        assert reply.status == 400


async def test_every_list_goes_on_where_a_page_ended(edge: Edge, client: aiohttp.ClientSession) -> None:
    async def page(query: str) -> Any:
        async with client.get(f"{edge.url}/v1/tenants?{query}", headers=bearer(ADMIN_KEY)) as reply:
            return await reply.json()

    first = await page("limit=1")
    second = await page(f"limit=1&cursor={first['next']}")
    assert [one["id"] for one in (*first["tenants"], *second["tenants"])] == ["acme", "bravo"]
    assert second["next"] is None
    lists = [route for route in all_routes(lambda: None) if _lists(route)]
    assert len(lists) >= 9
    for route in lists:
        assert {"cursor", "limit"} <= {query.name for query in route.query}, route.path


def _lists(route: Route) -> bool:
    """Whether its answer is a list that grows: one field with many of something, on the control plane."""
    return route.is_control and route.method == "GET" and (route.result or object).__name__.endswith("List")


ONE_ANSWER = {
    "/v1/tenants/{id}": "a tenant's agents are a part of it",
    "/v1/tenants/{id}/usage/recount": "what does not add up is nothing, but for a fault",
    "/v1/tenants/{id}/invoice": "its lines add up to its total",
    "/v1/tenants/{id}/quota": "there are as many as there are kinds",
    "/v1/status": "how all stands at one moment; `brief` makes it small",
    "/v1/tenants/{id}/status": "as above, of one tenant",
}
"""Routes with a list in their answer that is no list of things, and why."""


def test_every_list_of_the_control_plane_comes_in_pages() -> None:
    for route in all_routes(lambda: None):
        if route.method != "GET" or route.result is None:
            continue
        shape = route.result.model_json_schema(mode="serialization")["properties"]
        has_list = any(field.get("type") == "array" for field in shape.values())
        paged = {"limit", "cursor"} <= {query.name for query in route.query} and "next" in shape
        assert paged == (has_list and route.path not in ONE_ANSWER), (
            f"{route.path}: an answer with a list has `next`, and its route `query=PAGING` and `pages.page` in its "
            "handler; or say in ONE_ANSWER why it is one answer"
        )
