"""`GET /openapi.json`: the control plane and all other routes, made from the table of routes and its models."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from carrel.declare.admin_keys import ABOUT
from carrel.http.exchange import Exchange
from carrel.http.made_once import MadeOnce
from carrel.http.routes import Access, Route

EVENTS: Final = "text/event-stream"
_REF: Final = "#/components/schemas/{model}"
_PARAMETER: Final = re.compile(r"\{([a-z_]+)(?::[^}]*)?\}")
_SECURITY: Final[Mapping[Access, list[dict[str, list[str]]]]] = {
    "public": [],
    "scrape": [{}],
    "tenant-chat": [{"tenantToken": ["chat"]}],
    "tenant-rpc": [{"tenantToken": ["rpc"]}],
    "tenant-ws": [{"tenantToken": ["rpc"]}, {"tenantToken": ["node"]}, {"browserCookie": []}],
    "browser": [{"browserCookie": []}],
    "operator-ws": [],
}
_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Stable; act upon this one."},
        "request_id": {"type": "string"},
        "param": {"type": "string", "description": "The path of the field that was wrong."},
    },
}
_ERROR: Final[dict[str, Any]] = {
    "description": "An error (RFC 9457).",
    "content": {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}},
}
_SHAPES: Final[dict[str, dict[str, str]]] = {"id": {"pattern": r"^[a-z0-9][a-z0-9_-]{0,31}$"}}
"""What is known of a path's parameters."""


def route(routes: Iterable[Route]) -> Route:
    """The route that serves the document of ``routes`` and of itself."""

    made = MadeOnce[bytes]()

    async def openapi(exchange: Exchange) -> web.StreamResponse:
        version = exchange.services.version
        body = await made.get(lambda: json.dumps(document((*routes, own), version=version)).encode())
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    own = Route("GET", "/openapi.json", openapi, "public", "This document.")
    return own


def document(routes: Iterable[Route], *, version: str) -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    routes = list(routes)
    kinds: list[tuple[type[BaseModel], Any]] = [(r.body, "validation") for r in routes if r.body is not None]
    kinds += [(r.result, "serialization") for r in routes if r.result is not None]
    names, definitions = models_json_schema(kinds, by_alias=True, ref_template=_REF)
    shared = Counter(row.handler.__name__ for row in routes)
    paths: dict[str, dict[str, Any]] = {}
    for row in routes:
        path = _PARAMETER.sub(r"{\1}", row.path)
        operation = _operation(row, names)
        if shared[operation["operationId"]] > 1:
            operation["operationId"] += f"_{row.method.lower()}"
        paths.setdefault(path, {})[row.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Carrel", "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": {**definitions.get("$defs", {}), "Problem": _PROBLEM},
            "responses": {"Problem": _ERROR},
            "securitySchemes": {
                "tenantToken": {"type": "http", "scheme": "bearer", "description": "`tk_<tenant>_<32 hex>`"},
                "tenantKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "browserCookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "__Host-carrel",
                    "description": "A change needs the header X-Carrel-CSRF too, and `/ws` a ticket.",
                },
                "adminKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`ak_<name>_<32 hex>`. What an operation names is the scope that the key needs: "
                    + "; ".join(f"`{scope}`: {about}" for scope, about in ABOUT.items()),
                },
            },
        },
    }


def _operation(row: Route, names: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "Done."}
    if row.media == EVENTS and row.result is not None:
        # What 3.1 has a schema of is all of the text: that of each event's data is told beside it.
        event = names[row.result, "serialization"]
        told = {"type": "string", "description": "Server-sent events; `x-event` is the data of each."}
        answer["content"] = {row.media: {"schema": told, "x-event": event}}
    elif row.result is not None:
        answer["content"] = {row.media: {"schema": names[row.result, "serialization"]}}
    elif row.status != 204:
        answer["content"] = {row.media: {}}
    operation: dict[str, Any] = {
        "summary": row.summary,
        "operationId": row.handler.__name__,
        "security": _security(row),
        "responses": {str(row.status): answer, **_refusals(row), "default": _default_answer(row)},
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", **_SHAPES.get(name, {})}}
        for name in _PARAMETER.findall(row.path)
    ]
    for query in row.query:
        shape = {"type": "string", **({"pattern": query.pattern} if query.pattern else {})}
        parameters.append({"name": query.name, "in": "query", "description": query.description, "schema": shape})
    parameters += _conditions(row, answer)
    if parameters:
        operation["parameters"] = parameters
    if row.body is not None:
        operation["requestBody"] = {"content": {"application/json": {"schema": names[row.body, "validation"]}}}
    return operation


def _refusals(row: Route) -> dict[str, dict[str, Any]]:
    """What else the control plane answers with, by status."""
    if not row.is_control:
        return {}
    refused: dict[str, Any] = {"$ref": "#/components/responses/Problem"}
    found = dict.fromkeys(("400", "401", "403", "429"), refused)
    if _PARAMETER.search(row.path):
        found["404"] = refused
    if row.method == "GET":
        found["304"] = {"description": "It is still what the ETag in `If-None-Match` names."}
    else:
        found |= {"409": refused, "412": refused}
    return dict(sorted(found.items()))


def _conditions(row: Route, answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The headers of the control plane: ETags with what they condition, and idempotency keys."""
    if not row.is_control:
        return []
    text = {"type": "string"}
    if row.method == "GET":
        answer["headers"] = {"ETag": {"description": "Names this state of it.", "schema": text}}
        about = "Answer 304 where the ETag is still this one."
        return [{"name": "If-None-Match", "in": "header", "description": about, "schema": text}]
    about = "1 to 128 characters: repeated within a day, the change is not made again, and its answer is the same."
    found = [{"name": "Idempotency-Key", "in": "header", "description": about, "schema": {**text, "maxLength": 128}}]
    if "{id}" in row.path:
        own = "What is changed has this ETag in its list; or the tenant's" if row.matched else "The tenant's ETag"
        about = f"{own}: refuse with 412 where it is another by now."
        found.append({"name": "If-Match", "in": "header", "description": about, "schema": text})
    if row.method == "PUT":
        about = "`*`: refuse with 412 where there is one already."
        found.append({"name": "If-None-Match", "in": "header", "description": about, "schema": text})
    return found


def _security(row: Route) -> list[dict[str, list[str]]]:
    """Who may, an admin key by its scope; Anthropic's clients send the token in a header of its own."""
    found = list(_SECURITY.get(row.access, ()))
    if row.scope is not None:
        found.append({"adminKey": [row.scope]})
    if row.own:
        found.append({"tenantToken": ["rpc"]})
    if row.dialect == "anthropic" or row.by_version:
        found.append({"tenantKey": ["chat"]})
    return found


def _default_answer(row: Route) -> dict[str, Any]:
    if row.dialect != "problem":
        return {"description": "An error in this endpoint's own dialect."}
    also: dict[str, Any] = {"text/html": {}} if row.media == "text/html" else {}
    return {**_ERROR, "content": {**_ERROR["content"], **also}}
