"""`carrel rpc`: any JSON-RPC method of a tenant's, called as its operator."""

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import joined, request
from carrel.cli.failures import DONE, NotUnderstood, Refused, WrongUsage
from carrel.cli.options import HERE, OR_STANDARD, Target
from carrel.cli.orders import tenant_path
from carrel.cli.tenants import TenantArgument

MOST_OF_A_PAGE: Final = 1000


def rpc(
    tenant: TenantArgument,
    method: Annotated[str, Parameter(name="METHOD", help="As `sessions.list`; `rpc.discover` tells all of them.")],
    params: Annotated[
        str | None,
        OR_STANDARD,
        Parameter(name="PARAMS", help="A JSON object or array; `-` reads it from standard input."),
    ] = None,
    /,
    *,
    target: Target = HERE,
) -> int:
    """Call a JSON-RPC method for a tenant and print its result, which is JSON with or without `--json`."""
    call: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method}
    if params is not None:
        call["params"] = _parsed(sys.stdin.read() if params == "-" else params)
    answer = request(target, "POST", tenant_path(tenant, "rpc"), json.dumps(call).encode())
    screen.show_json(result_of(answer))
    return DONE


def called(target: Target, tenant: str, method: str, params: Mapping[str, object]) -> Any:
    """The result of a tenant's method, called as its operator."""
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return result_of(request(target, "POST", tenant_path(tenant, "rpc"), json.dumps(call).encode()))


def called_whole(
    target: Target, tenant: str, method: str, of: str, params: Mapping[str, object] | None = None
) -> Any:  # fmt: skip
    """The list that a tenant's method gives, page after page, as one answer; ``of`` is the field with the entries."""
    document: Any = None
    after: str | None = ""
    while after is not None:
        cursor = {"cursor": after} if after else {}
        page = called(target, tenant, method, {**(params or {}), "limit": MOST_OF_A_PAGE, **cursor})
        document, after = joined(document, page, of)
    return document


def result_of(answer: Any) -> Any:
    """What a method gave; raises Refused with what it said, NotUnderstood."""
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        error = answer["error"]
        data = error.get("data")
        code = data.get("code") if isinstance(data, dict) else None
        message = str(error.get("message", "The method failed."))
        raise Refused(message, code=str(code or error.get("code", "refused")))
    if not isinstance(answer, dict) or "result" not in answer:
        raise NotUnderstood("What answered does not speak JSON-RPC 2.0.")
    return answer["result"]


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise WrongUsage(f"PARAMS is no JSON ({error}): it looks like '{{\"limit\": 5}}'.") from error
    if not isinstance(value, dict | list):
        raise WrongUsage("PARAMS is a JSON object or array, as '{\"limit\": 5}'.")
    return value
