"""The reference pages of the HTTP routes and of the JSON-RPC methods, made from the tables that serve them.

``python -m carrel.http.reference DIRECTORY`` writes both; a test holds the checked-in pages to them.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from carrel.http.app import all_routes
from carrel.http.errors import STATUS
from carrel.http.routes import Access, Route
from carrel.http.rpc.methods import REGISTRY
from carrel.http.rpc.registry import Method

_WHO: Final[dict[Access, str]] = {
    "public": "anyone",
    "scrape": "loopback, the control socket, or an admin key with `metrics:read`",
    "tenant-chat": "a tenant token with `chat`",
    "tenant-rpc": "a tenant token with `rpc`",
    "tenant-ws": "a tenant token with `rpc`, or a node's; a browser's ticket",
    "browser": "a browser that is logged in",
    "operator-ws": "an operator with `act`",
}
_HTTP_HEAD: Final = """# HTTP routes

<!-- Made by `python -m carrel.http.reference docs/reference`. Edit the routes, not this page. -->

The gateway listens on one TCP address and on the control socket (`run/control.sock` in the state directory), with
the same routes on both. A credential goes into `Authorization: Bearer`; on the control socket none is needed where
root, the gateway's own user or who started it calls. `GET /openapi.json` describes the same routes for programs.

- **Operators** come over the control socket, which may do everything, or with an admin key that has the scope that
  the route names ([admin keys](../howto/admin-keys.md)); without it they get a 403 whose `scope` names it. A key that
  is limited to some tenants gets 404 for others, and 403 for what is about the whole gateway.
- **Request ids**: `X-Request-Id` is taken where it is 1 to 128 of `A-Z a-z 0-9 . _ -` and no token, else made, and
  always given back.
- **Hosts**: the Host header must be a loopback name, a numeric address, or a name that the operator allowed; else
  421.
- **Bodies**: `max_body_bytes` of `_gateway.yaml` bounds a chat completion, 8 MiB a JSON-RPC request, 1 MiB the
  rest; over it is 413, and the connection closes without reading on, but for up to 64 MiB of a known caller's, who then
  sees the answer. Compressed bodies are 415. A body that stalls is 408.
- **Errors**: RFC 9457 problems, but for the OpenAI endpoints (`{"error": {...}}`), `/v1/messages` (Anthropic's
  `{"type": "error", ...}`) and `/rpc` (a JSON-RPC error).
  `code` is what programs should act upon. Over a quota is 429 with `Retry-After` and `reset_at`.
- **Lists** of the control plane come in pages: `limit` (1 to 1000, 100 by default), and `next` of the answer as
  `cursor` of the next request. While a list changes nothing is left out or told twice.
- **ETags**: each GET of the control plane has one, and answers 304 to an `If-None-Match` that names it. That of a
  tenant is its revision, and what is declared of it (its quotas, say) has an ETag that begins with it: a change with
  `If-Match` of any of them is refused with 412 where the tenant is another by then. Tokens and secrets have an `etag`
  of their own in their lists, which `If-Match` takes where they are changed; `PUT` of a secret with `If-None-Match: *`
  only makes a new one. Snapshots, sandboxes and backups never change: their ids are never used again. What is of no
  one tenant (`/v1/reconcile`, say) has no ETag to hold a change against: there `If-Match` is 412, and nothing is done.
- **Idempotency-Key** (1 to 128 characters) on any change of the control plane: asked again within a day, it is not
  made again and its answer is the same, with `Idempotent-Replayed: true`. One that shows a token answers 409 the
  second time; one that a gateway died in the middle of, 409 `outcome_unknown`.
- **Soft quotas** that the tenant has passed are named in `X-Quota-Warning` of each answer to it.
- **Agents** (`agent:<name>` at `/v1/chat/completions`, `/v1/messages` and `/v1/responses`; also `openclaw`,
  `openclaw/default`, `openclaw/<name>`, `openclaw:<name>`): the session is the one in `X-Carrel-Session`, else one that
  belongs to the agent and `user` (`metadata.user_id` in messages), else new; it is named in the answer's
  `X-Carrel-Session`. The agent's own tool calls do not appear. Instructions are added to the agent's prompt. `tools`,
  `n`, `stop`, `response_format`, `thinking` and the like are refused by name. `agent:<name>` at `/v1/embeddings` is the
  model of the tenant's `memory.embedding_model`.
- **Models** of a provider that speaks the endpoint's own dialect pass through as bytes, with all fields that we do not
  know; those of other providers are translated, tools, images, reasoning and usage with them, and what cannot be
  carried is refused by name. Embeddings are not translated, and the count of a message's tokens is an estimate where
  the vendor of the dialect is not asked (`X-Carrel-Estimated`).
- **Fallbacks**: where a model of `_gateway.yaml` has `fallbacks`, they are asked in order when its provider fails
  before the answer began, whatever their dialect. The ledger's row names the model that answered, and
  `X-Carrel-Model` does where its answer is translated.
- With the operator's key nothing is stored with the vendor, and what needs that (files by id) or costs more than
  tokens (tools that the vendor runs) is refused by name. `x-api-key` is taken too; `GET /v1/models` with
  `anthropic-version` lists in Anthropic's form and pages.
- **`/v1/tenants/{id}/chat`** answers with server-sent events; each is named for its `kind`: `session` first, then
  `text`, `thinking`, `notice`, `tool_started`, `tool_output`, `tool_finished`, at last `finished` or `error`.
"""
_RPC_HEAD: Final = """# JSON-RPC methods

<!-- Made by `python -m carrel.http.reference docs/reference`. Edit the methods, not this page. -->

`POST /rpc` with a tenant token speaks [JSON-RPC 2.0](https://www.jsonrpc.org/specification): single requests,
batches of at most 50 that are answered in their order, notifications, parameters by name or by position. `POST
/v1/tenants/{id}/rpc` is the same for an operator who acts for a tenant. Who you are is judged at the HTTP level
(401, 403, 429); what a method says is 200 with `result` or `error`, whose `data.code` is one of the stable codes of
the [HTTP page](http.md). Each call counts as one request. `rpc.discover` gives the same as an OpenRPC document. A
`tenantId` may only be the caller's own. `GET /ws` speaks the same over a WebSocket, with events:
[the guide](../howto/websocket.md).

- **Idempotency**: a method that changes state takes an `idempotencyKey` beside its parameters by name, or for a single
  call in the `Idempotency-Key` header. It is done once for each key within a day, also over a restart of the gateway:
  a repeated call waits for the first one, or gets its answer. The same key with other parameters is
  `idempotency_key_reused`. A refusal is not kept. An answer that holds a token is shown once and not kept either. Of
  the other methods those that only look may be repeated, and the rest say what they do then.
- **Pages**: what lists takes `limit` and `cursor`, and gives the next page's cursor as `next` until there is none.
"""


def http_page(routes: Iterable[Route]) -> str:
    """The page of the routes and of the error codes."""
    out = [_HTTP_HEAD, "## Routes", "", "| method and path | who | what |", "|---|---|---|"]
    for route in routes:
        path = re.sub(r":[^}]*\}", "}", route.path)
        out.append(f"| `{route.method} {path}` | {_who(route)} | {route.summary} |")
    out += ["", "## Queries", "", "| route | query | what |", "|---|---|---|"]
    for route in routes:
        out += [f"| `{route.method} {route.path}` | `{q.name}` | {q.description} |" for q in route.query]
    out += ["", "## Error codes", "", "| code | status |", "|---|---|"]
    out += [f"| `{code}` | {status} |" for code, status in sorted(STATUS.items())]
    return "\n".join(out) + "\n"


def _who(route: Route) -> str:
    known = _WHO.get(route.access, f"an operator with `{route.scope}`")
    return f"{known}, or the tenant itself with `rpc`" if route.own else known


def rpc_page(methods: Iterable[Method]) -> str:
    """The page of the methods."""
    out = [_RPC_HEAD]
    for method in methods:
        keyed = " Takes an `idempotencyKey`." if method.changes else ""
        if method.repeated:
            keyed = f" Repeated, it {method.repeated}."
        out += [f"## {method.name}", "", f"{method.summary} Scope: `{method.scope}`.{keyed}", ""]
        out += _table("Parameters", method.params, "validation")
        out += _table("Result", method.result, "serialization")
    return "\n".join(out).rstrip("\n") + "\n"


def _table(title: str, model: type[BaseModel], mode: Any) -> list[str]:
    schema = model.model_json_schema(by_alias=True, mode=mode)
    required = set(schema.get("required", ())) if mode == "validation" else set()
    rows = [
        f"| `{name}`{' (required)' if name in required else ''} | {_kind(shape)} | {shape.get('description', '')} |"
        for name, shape in schema.get("properties", {}).items()
    ]
    return [f"{title}:", "", "| name | type | |", "|---|---|---|", *rows, ""] if rows else [f"{title}: none.", ""]


def _kind(shape: dict[str, Any]) -> str:
    """A JSON Schema as a word or two."""
    if "$ref" in shape:
        return str(shape["$ref"]).rpartition("/")[2]
    if "enum" in shape:
        return ", ".join(f"`{value}`" for value in shape["enum"])
    if "anyOf" in shape:
        return " or ".join(_kind(option) for option in shape["anyOf"])
    if shape.get("type") == "array":
        return f"list of {_kind(shape.get('items', {}))}"
    return str(shape.get("type", "any"))


def write(directory: Path) -> None:
    """Write both pages into ``directory``."""
    (directory / "http.md").write_text(http_page(all_routes(lambda: None)))
    (directory / "rpc.md").write_text(rpc_page(REGISTRY))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
