"""The registry of methods and the one way to call them."""

import inspect
import os
import typing
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import structlog
from pydantic import BaseModel, ValidationError

from carrel.declare.base import Scope
from carrel.errors import CarrelError, Forbidden, Unavailable
from carrel.http.body import path_of
from carrel.http.engines import Engines
from carrel.http.errors import rpc_error, unexpected
from carrel.http.rpc import openclaw
from carrel.http.services import Services
from carrel.ids import RequestId
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire import jsonrpc
from carrel.wire.rpc import OwnTenant
from carrel.wire.wording import wording

_log = structlog.get_logger(__name__)
LOOKS: Final = frozenset(
    {
        "bins", "describe", "discover", "get", "health", "history", "list", "preview", "requests", "runs", "schema",
        "search", "status", "usage",
    }
)  # fmt: skip
"""The last words of methods that change nothing, which are all that a viewer may call."""
ALL_SCOPES: Final[frozenset[str]] = frozenset({"chat", "rpc", "admin"})
KEY: Final = "idempotencyKey"
MOST_KEY: Final = 128


class Peer(Protocol):
    """The connection that a call came by, where it can be spoken to by itself."""

    @property
    def id(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Tell the other side something, without waiting for it."""
        ...

    def on_close(self, call: Callable[[], None]) -> None:
        """Call back when the connection has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """For whom a method runs. ``scopes`` are the token's, or all of them where an operator acts for the tenant.

    ``peer`` is set on `/ws`. ``key`` is an idempotency key that came beside the call. ``seed`` is set where there was
    one: what the method makes has an id that follows from it. ``again``: a gateway that died had begun the call.
    ``allowed`` says whether the caller's credential still holds.
    """

    services: Services
    tenant: Tenant
    snapshot: Snapshot
    request_id: RequestId
    actor: str
    scopes: frozenset[str]
    token_name: str | None = None
    peer: Peer | None = None
    key: str | None = None
    seed: str | None = None
    again: bool = False
    allowed: Callable[[], bool] = lambda: True

    def new_id(self, prefix: str) -> str:
        """An id for something new: ``prefix`` and 24 hex digits, the same ones for one idempotency key."""
        return f"{prefix}_{self.seed or os.urandom(12).hex()}"


@dataclass(frozen=True, slots=True)
class Method:
    """One method with everything that its page in the reference says.

    ``changes``: it changes state, and takes an idempotency key. ``repeated`` says of one that neither takes a key nor
    only looks, by its last word, what it does when it is called again. ``secret``: its answer is shown once and never
    kept.
    ``target`` is the parameter that the audit log names; None where the method's service writes its own line.
    ``counted``: on `/ws`, a call is a request that quotas know of.
    """

    name: str
    summary: str
    params: type[BaseModel]
    result: type[BaseModel]
    scope: Scope
    call: Callable[[Context, Any], Awaitable[BaseModel]]
    changes: bool = False
    secret: bool = False
    target: str | None = None
    counted: bool = True
    repeated: str = ""

    @property
    def reads(self) -> bool:
        """Whether it only looks: its last word says so. One with a word that is not known here is a change."""
        return not self.changes and self.name.rpartition(".")[2] in LOOKS


class Registry:
    """Methods by name."""

    def __init__(self) -> None:
        self._methods: dict[str, Method] = {}

    def __iter__(self) -> Iterator[Method]:
        return iter(sorted(self._methods.values(), key=lambda method: method.name))

    def method(
        self,
        name: str,
        *,
        scope: Scope = "rpc",
        changes: bool = False,
        secret: bool = False,
        target: str | None = None,
        counted: bool = True,
        repeated: str = "",
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register a function ``(context, params) -> result`` under ``name``; its docstring is the summary."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            if name in self._methods:
                raise ValueError(f"two methods are called {name}")
            hints = typing.get_type_hints(function)
            params = next(p for p in list(inspect.signature(function).parameters)[1:])
            summary = (inspect.getdoc(function) or "").partition("\n")[0]
            self._methods[name] = Method(
                name, summary, hints[params], hints["return"], scope, function, changes, secret, target, counted,
                repeated,
            )  # fmt: skip
            return function

        return register

    def counted(self, name: str) -> bool:
        """Whether a call of ``name`` is a request that quotas know of; one that there is not is one too."""
        method = self._methods.get(name)
        return method is None or method.counted

    async def call(self, context: Context, call: jsonrpc.Call) -> dict[str, Any]:
        """The answer to ``call``, whatever happens in it."""
        try:
            value = await self._run(context, call)
            return jsonrpc.result(call.id, openclaw.answered(call.method, context.tenant.id, value))
        except jsonrpc.RpcError as error:
            return jsonrpc.failure(call.id, error)
        except CarrelError as error:
            return jsonrpc.failure(call.id, rpc_error(error, request_id=context.request_id))
        except Exception as error:  # noqa: BLE001 - the root of a call: one of a batch must not end the others
            _log.error(
                "method failed", method=call.method, tenant=context.tenant.id,
                request_id=context.request_id, exc_info=error,
            )  # fmt: skip
            told = unexpected(error, context.request_id)
            return jsonrpc.failure(call.id, rpc_error(told, request_id=context.request_id))

    async def _run(self, context: Context, call: jsonrpc.Call) -> dict[str, Any]:
        method = self._methods.get(call.method)
        if method is None:
            raise self._unknown(call.method)
        if method.scope not in context.scopes:
            raise Forbidden(f"{method.name} needs the scope {method.scope!r}, which this token does not have.")
        if context.tenant.role == "viewer" and "admin" not in context.scopes and not method.reads:
            # An operator who acts for a viewer has all scopes, and no viewer's token has this one.
            raise Forbidden(f"{method.name} changes something: {context.tenant.member} is a viewer, who may only look.")
        call, key = _keyed(method, call, context.key)
        params = _parse(method, call)
        if isinstance(params, OwnTenant) and params.tenant_id not in (None, context.tenant.id):
            # The same for an id that exists and for one that does not.
            raise Forbidden("`tenantId` is not yours; leave it out: the token says who you are.")
        if key is None:
            return await done(context, method, params)
        if context.services.keyed is None:
            raise Unavailable("Idempotency keys are not kept here.")
        return await context.services.keyed.run(context, method, params, key)

    def _unknown(self, name: str) -> jsonrpc.RpcError:
        import difflib  # noqa: PLC0415 - for what is wrong alone

        near = difflib.get_close_matches(name[:128], self._methods, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else " `rpc.discover` lists what there is."
        data = {"nearest": near[0]} if near else None
        return jsonrpc.RpcError(jsonrpc.METHOD_NOT_FOUND, f"There is no method {name[:128]!r}.{hint}", data)


def engines(context: Context) -> Engines:
    """The rooms behind a tenant's own affairs; raises Unavailable where there are none."""
    if context.services.engines is None:
        raise Unavailable("This gateway keeps none of that.")
    return context.services.engines


async def done(context: Context, method: Method, params: BaseModel) -> dict[str, Any]:
    """What ``method`` answers; where it changes state, the audit log has what came of it by then."""
    if method.target is None:
        value = await method.call(context, params)
    else:
        named = getattr(params, method.target, None)
        target = str(named if named is not None else context.tenant.id)[:256]
        async with context.services.audit.change(
            actor=context.actor, action=method.name, target=target, request_id=context.request_id,
            tenant=context.tenant.id,
        ):  # fmt: skip
            value = await method.call(context, params)
    return value.model_dump(mode="json", by_alias=True, exclude_none=True)


def _keyed(method: Method, call: jsonrpc.Call, beside: str | None) -> tuple[jsonrpc.Call, str | None]:
    """``call`` without its idempotency key, and the key; raises RpcError for one that is none."""
    if not method.changes:
        return call, None
    key: Any = beside
    if isinstance(call.params, dict) and KEY in call.params:
        key = call.params[KEY]
        call = replace(call, params={name: value for name, value in call.params.items() if name != KEY})
    if key is not None and not (isinstance(key, str) and 1 <= len(key) <= MOST_KEY and key.isprintable()):
        message = f"`{KEY}` is 1 to {MOST_KEY} printable characters."
        raise jsonrpc.RpcError(jsonrpc.INVALID_PARAMS, message, {"code": "invalid_request", "path": KEY})
    return call, key


def _parse(method: Method, call: jsonrpc.Call) -> BaseModel:
    given = call.params if call.params is not None else {}
    if isinstance(given, list):
        fields = [field.alias or name for name, field in method.params.model_fields.items()]
        if len(given) > len(fields):
            raise jsonrpc.RpcError(
                jsonrpc.INVALID_PARAMS, f"{method.name} takes at most {len(fields)} parameters; {len(given)} were sent."
            )
        given = dict(zip(fields, given, strict=False))
    try:
        return method.params.model_validate(openclaw.asked(method.name, given))
    except ValidationError as error:
        found = error.errors(include_url=False)
        problems = [{"path": path_of(p["loc"]), "problem": wording(p)} for p in found]
        first = problems[0]
        missing = found[0]["type"] == "missing"
        said = f"`{first['path']}` is missing." if missing else f"{first['path'] or 'params'}: {first['problem']}."
        raise jsonrpc.RpcError(
            jsonrpc.INVALID_PARAMS, f"{method.name}: {said}",
            {"code": "invalid_request", "path": first["path"], "problems": problems},
        ) from None  # fmt: skip
