"""The checked-in reference pages are those that the tables make."""

from pathlib import Path

from carrel.http.app import all_routes
from carrel.http.reference import http_page, rpc_page, write
from carrel.http.rpc.methods import REGISTRY

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference"


def test_the_pages_are_up_to_date(tmp_path: Path) -> None:
    write(tmp_path)
    for name in ("http.md", "rpc.md"):
        made, kept = (tmp_path / name).read_text(), (REFERENCE / name).read_text()
        assert made == kept, f"{name}: run `python -m carrel.http.reference docs/reference`"


def test_every_route_and_method_is_on_its_page() -> None:
    routes = all_routes(lambda: None)
    page = http_page(routes)
    for route in routes:
        assert f"`{route.method} {route.path.replace(':.+', '')}`" in page
        for query in route.query:
            assert f"`{query.name}`" in page
    methods = rpc_page(REGISTRY)
    for method in REGISTRY:
        assert f"## {method.name}\n" in methods
        for name, field in method.params.model_fields.items():
            assert f"`{field.alias or name}`" in methods
