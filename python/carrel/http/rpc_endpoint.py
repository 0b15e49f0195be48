"""`POST /rpc`: who you are is judged at the HTTP level; what a method says is in the body, with status 200."""

import json
from typing import Any, Final

from aiohttp import web

from carrel.errors import CarrelError, InvalidRequest, QuotaExceeded, RateLimited
from carrel.http.auth import Caller, TenantCaller
from carrel.http.errors import rpc_error
from carrel.http.exchange import Exchange
from carrel.http.routes import Route
from carrel.http.rpc.late import METHODS
from carrel.http.rpc.registry import ALL_SCOPES, Context
from carrel.http.turns import LARGE_BYTES
from carrel.tenancy.handle import Tenant
from carrel.wire import jsonrpc

MAX_RPC_BYTES: Final = 8 * 1024 * 1024
KEY_HEADER: Final = "Idempotency-Key"
ENDING: Final = frozenset({"tenants.rotate", "device.token.rotate", "device.token.revoke"})
"""What ends a credential: whoever floods with a stolen one must not stand in the way of that."""
_ENDING_BYTES: Final = 4096


async def own_rpc(exchange: Exchange) -> web.StreamResponse:
    """The calling tenant's methods."""
    caller = exchange.tenant("rpc")
    return await answer(exchange, caller.tenant, caller)


async def answer(exchange: Exchange, tenant: Tenant, caller: Caller) -> web.StreamResponse:
    """Read the body's requests and answer them in their order, one after the other."""
    refusal: CarrelError | None = None
    try:
        await exchange.services.meter.admit_request(tenant)
    except (QuotaExceeded, RateLimited) as error:
        refusal = error
        if not 0 < (exchange.request.content_length or 0) <= _ENDING_BYTES:
            raise
    body = await exchange.body(limit=MAX_RPC_BYTES)
    if len(body) > LARGE_BYTES:
        await exchange.services.turns.begin(tenant.id)
    envelope = jsonrpc.parse(body)
    key = exchange.request.headers.get(KEY_HEADER)
    if key is not None and envelope.batch:
        raise InvalidRequest(f"{KEY_HEADER} is for one call; in a batch each has its own `idempotencyKey`.", param="id")
    if isinstance(caller, TenantCaller):
        scopes, token_name = frozenset(caller.record.scopes), caller.record.name
    else:
        scopes, token_name = ALL_SCOPES, None
    if refusal is not None and not all(_ends(entry, scopes) for entry in envelope.entries):
        raise refusal
    context = Context(
        exchange.services, tenant, exchange.snapshot, exchange.request_id, caller.label, scopes, token_name,
        key=key, allowed=lambda: exchange.authenticator.still_valid(caller),
    )  # fmt: skip
    answers = await answered(context, envelope, admitted=refusal is None)
    if not answers:
        return web.Response(status=204)
    if not envelope.batch:
        return web.json_response(answers[0])
    body = await _written(exchange, tenant, answers)
    return web.Response(body=body, content_type="application/json", charset="utf-8")


async def _written(exchange: Exchange, tenant: Tenant, answers: list[dict[str, Any]]) -> bytes:
    """A batch's answers as JSON, each written in a turn of its own: fifty long ones take as long as fifty calls."""
    parts: list[bytes] = []
    for said in answers:
        await exchange.services.turns.begin(tenant.id)
        parts.append(json.dumps(said).encode())
    return b"[" + b", ".join(parts) + b"]"


async def answered(context: Context, envelope: jsonrpc.Envelope, *, admitted: bool) -> list[dict[str, Any]]:
    """The answers to what ``envelope`` holds, in its order. ``admitted``: the first was counted already."""
    answers: list[dict[str, Any]] = []
    for position, entry in enumerate(envelope.entries):
        if isinstance(entry, jsonrpc.Malformed):
            answers.append(jsonrpc.failure(entry.id, entry.error))
            continue
        said = await _one(context, entry, admitted=admitted and position == 0)
        if not entry.notification:
            answers.append(said)
    return answers


async def _one(context: Context, call: jsonrpc.Call, *, admitted: bool) -> dict[str, Any]:
    """The answer to one call, which counts as a request unless its method does not; the others have their answers."""
    registry = await METHODS.registry()
    if registry.counted(call.method):
        await context.services.turns.begin(context.tenant.id)
    if not admitted and registry.counted(call.method):
        try:
            await context.services.meter.admit_request(context.tenant)
        except CarrelError as error:
            if not (isinstance(error, QuotaExceeded | RateLimited) and _ends(call, context.scopes)):
                return jsonrpc.failure(call.id, rpc_error(error, request_id=context.request_id))
    return await registry.call(context, call)


def _ends(entry: jsonrpc.Call | jsonrpc.Malformed, scopes: frozenset[str]) -> bool:
    """Whether a call ends a credential, by one who may."""
    return isinstance(entry, jsonrpc.Call) and entry.method in ENDING and "admin" in scopes


ROUTES: Final = (
    Route("POST", "/rpc", own_rpc, "tenant-rpc", "JSON-RPC 2.0, single or batch.", dialect="jsonrpc", counts=True),
)
