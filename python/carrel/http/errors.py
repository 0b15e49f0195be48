"""The one place where errors become statuses and dialects. Nothing here decides what is an error."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Literal

import structlog
from aiohttp import web

from carrel.errors import (
    CarrelError,
    InternalError,
    InvalidRequest,
    QuotaExceeded,
    RateLimited,
    StorageFailed,
    UpstreamError,
    lacking,
)
from carrel.ids import RequestId
from carrel.wire import anthropic_answer, jsonrpc
from carrel.wire.openai_answer import error_body

Dialect = Literal["problem", "openai", "anthropic", "jsonrpc"]

STATUS: Final[Mapping[str, int]] = {
    "unauthorized": 401,
    "forbidden": 403,
    "tenant_suspended": 403,
    "tenant_not_ready": 503,
    "invalid_request": 400,
    "too_large": 413,
    "unsafe_path": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "unsupported_encoding": 415,
    "misdirected": 421,
    "no_websocket": 426,
    "upgrade_required": 426,
    "turn_cancelled": 409,
    "bad_host": 400,
    "address_refused": 403,
    "egress_denied": 403,
    "placeholder_misplaced": 403,
    "proxy_auth": 407,
    "connection_unusable": 409,
    "oauth_refused": 502,
    "oauth_unclear": 502,
    "unreachable": 502,
    "no_roots": 503,
    "vault_unavailable": 503,
    "signing_key_unusable": 503,
    "grants_unreadable": 503,
    "object_store_unavailable": 503,
    "object_store_refused": 502,
    "object_missing": 502,
    "object_changed": 409,
    "object_damaged": 502,
    "no_backups": 404,
    "no_backup_target": 409,
    "cancelled": 503,
    "conflict": 409,
    "branch_moved": 409,
    "idempotency_key_reused": 409,
    "precondition_failed": 412,
    "outcome_unknown": 409,
    "document_unreadable": 503,
    "channel_failed": 502,
    "node_failed": 502,
    "node_timeout": 504,
    "config_changed": 409,
    "admin_only_key": 403,
    "model_not_found": 404,
    "model_not_allowed": 403,
    "quota_exceeded": 429,
    "rate_limited": 429,
    "upstream_error": 502,
    "upstream_timeout": 504,
    "provider_unavailable": 503,
    "request_timeout": 408,
    "unavailable": 503,
    "sandbox_unavailable": 503,
    "sandbox_busy": 503,
    "secret_missing": 503,
    "secret_unfit": 502,
    "upstream_auth": 502,
    "declaration_invalid": 422,
    "declaration_unreadable": 503,
    "not_editable": 409,
    "git_failed": 503,
    "remote_unreachable": 502,
    "tokens_unreadable": 503,
    "final_backup_failed": 503,
    "package_error": 503,
    "process_failed": 500,
    "storage_failed": 503,
    "storage_full": 507,
    "disk_quota_exceeded": 507,
    "internal_error": 500,
}
_UPSTREAM_PASSED_ON: Final = frozenset({400, 404, 413, 422, 429})
_OPENAI_TYPE: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPE: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
}
_RPC_CODE: Final[Mapping[int, int]] = {400: jsonrpc.INVALID_PARAMS, 500: jsonrpc.INTERNAL_ERROR}
_SDK_RETRY_CEILING: Final = 60.0
_log = structlog.get_logger(__name__)


class MethodNotAllowed(CarrelError):
    """The path is known and does not take this method."""

    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This path takes {allowed}.")
        self.allowed = allowed


class NoWebSocket(CarrelError):
    """A WebSocket is asked for where there is none; clients of the vendors' take 426 for that, and go on without."""

    code = "no_websocket"


class UpgradeRequired(CarrelError):
    """The path is a WebSocket and was asked for without one."""

    code = "upgrade_required"


class Misdirected(CarrelError):
    """The Host header names a host that this gateway does not answer for."""

    code = "misdirected"


class UnsupportedEncoding(CarrelError):
    """The body is compressed, which is not taken."""

    code = "unsupported_encoding"


class RequestTimeout(CarrelError):
    """The request's body came too slowly."""

    code = "request_timeout"


def status_of(error: CarrelError) -> int:
    """The HTTP status of ``error``; a code that is not listed has its nearest ancestor's."""
    if isinstance(error, UpstreamError) and error.status in _UPSTREAM_PASSED_ON:
        return error.status
    for kind in (error, *type(error).__mro__):
        status = STATUS.get(getattr(kind, "code", ""))
        if status is not None:
            return status
    return 500


def unexpected(error: Exception, request_id: RequestId) -> CarrelError:
    """What a caller is told of what nobody foresaw: that the machine lacks something, or of a fault of ours the id."""
    lacks = lacking(error, "this was not done, or not to its end") if isinstance(error, OSError) else None
    return lacks or InternalError(
        f"The gateway failed at this; it is logged. Quote request id {request_id} to the operator."
    )


def headers_of(error: CarrelError) -> dict[str, str]:
    """Headers that belong to an error: when to try again, how to authenticate, what the path takes."""
    headers: dict[str, str] = {}
    wait = _retry_after(error)
    if wait is not None:
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
        if wait > _SDK_RETRY_CEILING:
            # OpenAI's and Anthropic's clients would try again within seconds all the same.
            headers["x-should-retry"] = "false"
    if isinstance(error, QuotaExceeded):
        headers["X-RateLimit-Reset"] = error.reset_at.isoformat()
    if error.code == "unauthorized":
        headers["WWW-Authenticate"] = 'Bearer realm="carrel"'
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = error.allowed
    return headers


def _retry_after(error: CarrelError) -> float | None:
    if isinstance(error, QuotaExceeded | RateLimited):
        return error.retry_after
    if isinstance(error, UpstreamError):
        return error.retry_after
    return 1.0 if error.code in ("unavailable", "storage_failed") else None


def render(error: CarrelError, *, dialect: Dialect, request_id: RequestId, rpc_id: jsonrpc.Id = None) -> web.Response:
    """``error`` as a response in the dialect of the endpoint."""
    status = status_of(error)
    if dialect != "jsonrpc":
        _tell_operator(error, request_id)
    if dialect == "openai":
        body: dict[str, Any] = openai_error(error)
    elif dialect == "anthropic":
        body = anthropic_error(error, request_id=request_id)
    elif dialect == "jsonrpc":
        body = jsonrpc.failure(rpc_id, rpc_error(error, request_id=request_id))
    else:
        body = problem(error, request_id=request_id)
    response = web.json_response(body, status=status, headers=headers_of(error))
    if dialect == "problem":
        response.content_type = "application/problem+json"
    return response


def _tell_operator(error: CarrelError, request_id: RequestId) -> None:
    """What the machine lacks is for whoever looks after it, more than for who asked."""
    if isinstance(error, StorageFailed):
        _log.error("the disk refuses", request_id=request_id, code=error.code, reason=error.message)


def openai_error(error: CarrelError) -> dict[str, Any]:
    """The body that OpenAI's clients read."""
    status = status_of(error)
    kind = _OPENAI_TYPE.get(status, "invalid_request_error" if status < 500 else "server_error")
    body = error_body(error.code, error.message, error.param if isinstance(error, InvalidRequest) else None, kind)
    body["error"].update({k: v for k, v in error.details.items() if k not in body["error"]})
    return body


def anthropic_error(error: CarrelError, *, request_id: RequestId) -> dict[str, Any]:
    """The body that Anthropic's clients read."""
    status = status_of(error)
    kind = _ANTHROPIC_TYPE.get(status, "invalid_request_error" if status < 500 else "api_error")
    body = anthropic_answer.error_body(error.code, error.message, kind, request_id)
    body["error"].update({k: v for k, v in error.details.items() if k not in body["error"]})
    if isinstance(error, InvalidRequest) and error.param:
        body["error"]["param"] = error.param
    return body


def problem(error: CarrelError, *, request_id: RequestId) -> dict[str, Any]:
    """An RFC 9457 problem."""
    status = status_of(error)
    body: dict[str, Any] = {
        "type": f"urn:carrel:problem:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message,
        "code": error.code,
        "request_id": request_id,
    }
    if isinstance(error, InvalidRequest) and error.param:
        body["param"] = error.param
    body.update({k: v for k, v in error.details.items() if k not in body})
    return body


def rpc_error(error: CarrelError, *, request_id: RequestId) -> jsonrpc.RpcError:
    """An error object of JSON-RPC; the code is of the server's range unless the specification has one."""
    _tell_operator(error, request_id)
    status = status_of(error)
    code = _RPC_CODE.get(status, -32000 - status % 100 - (50 if status >= 500 else 0))
    data: dict[str, Any] = {"code": error.code, "status": status, "retryable": error.retryable, "requestId": request_id}
    if isinstance(error, InvalidRequest) and error.param:
        data["path"] = error.param
    wait = _retry_after(error)
    if wait is not None:
        data["retryAfterMs"] = max(1, math.ceil(wait * 1000))
    data.update({k: v for k, v in error.details.items() if k not in data})
    return jsonrpc.RpcError(code, error.message, data)
