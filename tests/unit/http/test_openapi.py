"""The OpenAPI document."""

import aiohttp
from openapi_spec_validator import OpenAPIV31SpecValidator

from carrel.http.app import all_routes
from carrel.http.openapi import document
from tests.fakes.edge import Edge


async def test_every_route_is_in_the_document(edge: Edge, client: aiohttp.ClientSession) -> None:
    async with client.get(edge.url + "/openapi.json") as reply:
        body = await reply.json()
    assert body["openapi"].startswith("3.1")
    described = {(m.upper(), path) for path, methods in body["paths"].items() for m in methods}
    ours = {(r.method, r.path.replace(":.+", "")) for r in all_routes(lambda: None)}
    assert described == ours


def test_references_resolve_and_operations_have_names_of_their_own() -> None:
    body = document(all_routes(lambda: None), version="1")
    known = {f"#/components/{kind}/{name}" for kind, of in body["components"].items() for name in of}

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            return [str(v) for k, v in value.items() if k == "$ref"] + [
                r for v in value.values() for r in references(v)
            ]
        return [r for v in value for r in references(v)] if isinstance(value, list) else []

    for reference in references(body):
        assert reference in known, reference
    names = [op["operationId"] for path in body["paths"].values() for op in path.values()]
    assert len(names) == len(set(names))
    schemes = set(body["components"]["securitySchemes"])
    for path in body["paths"].values():
        for op in path.values():
            assert {name for row in op["security"] for name in row} <= schemes


def test_the_document_is_valid_openapi_3_1() -> None:
    body = document(all_routes(lambda: None), version="1")
    assert [(error.message, list(error.absolute_path)) for error in OpenAPIV31SpecValidator(body).iter_errors()] == []


def test_the_control_plane_says_its_conditions_and_keys() -> None:
    paths = document(all_routes(lambda: None), version="1")["paths"]

    def headers(path: str, method: str) -> set[str]:
        return {one["name"] for one in paths[path][method]["parameters"] if one["in"] == "header"}

    assert headers("/v1/tenants", "get") == {"If-None-Match"}
    assert headers("/v1/tenants", "post") == {"Idempotency-Key"}
    assert headers("/v1/tenants/{id}/quota", "patch") == {"Idempotency-Key", "If-Match"}
    assert "ETag" in paths["/v1/tenants"]["get"]["responses"]["200"]["headers"]
    assert "parameters" not in paths["/v1/chat/completions"]["post"]


def test_the_control_plane_says_what_else_it_answers_with() -> None:
    paths = document(all_routes(lambda: None), version="1")["paths"]

    def statuses(path: str, method: str) -> set[str]:
        return set(paths[path][method]["responses"])

    always = {"400", "401", "403", "429", "default"}
    assert statuses("/v1/plans", "get") == {"200", "304", *always}
    assert "content" not in paths["/v1/plans"]["get"]["responses"]["304"]
    assert statuses("/v1/tenants/{id}/quota", "patch") == {"200", "404", "409", "412", *always}
    assert statuses("/v1/chat/completions", "post") == {"200", "default"}


def test_events_are_told_of_as_the_text_that_they_are_and_their_data_beside_it() -> None:
    body = document(all_routes(lambda: None), version="1")
    told = body["paths"]["/v1/tenants/{id}/chat"]["post"]["responses"]["200"]["content"]["text/event-stream"]
    assert (told["schema"]["type"], told["x-event"]) == ("string", {"$ref": "#/components/schemas/ChatEvent"})


def test_each_operation_names_the_scope_that_a_key_needs() -> None:
    for route in all_routes(lambda: None):
        path = document([route], version="1")["paths"]
        ((_, operation),) = next(iter(path.values())).items()
        named = [scope for row in operation["security"] for scope in row.get("adminKey", ())]
        assert named == ([route.scope] if route.scope is not None else []), route.path
