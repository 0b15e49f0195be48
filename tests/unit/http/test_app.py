"""The table of routes."""

from carrel.http.app import all_routes, make_app
from tests.fakes.edge import Edge


def test_no_two_routes_are_the_same() -> None:
    rows = [(r.method, r.path) for r in all_routes(lambda: None)]
    assert len(rows) == len(set(rows))
    assert ("POST", "/v1/chat/completions") in rows


async def test_the_router_holds_the_table_and_nothing_else(edge: Edge) -> None:
    app = make_app(edge.services, lambda: None)
    served = {(r.method, r.resource.canonical) for r in app.router.routes() if r.resource is not None}
    assert {row for row in served if row[0] != "HEAD"} == {
        (r.method, r.path.replace(":.+", "")) for r in all_routes(lambda: None)
    }
