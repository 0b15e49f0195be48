"""Every error of the house has a status, and its three dialects hold what clients read."""

import errno
import importlib
import json
import pkgutil
from collections.abc import Iterator
from datetime import UTC, datetime

import carrel
from carrel.errors import (
    CarrelError,
    InvalidRequest,
    NotFound,
    QuotaExceeded,
    RateLimited,
    StorageFull,
    TooLarge,
    Unauthorized,
    UpstreamError,
)
from carrel.http import errors
from carrel.ids import RequestId

ID = RequestId("req_1")


def descendants(kind: type[CarrelError]) -> Iterator[type[CarrelError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from descendants(child)


def test_every_error_of_the_house_is_listed() -> None:
    for module in pkgutil.walk_packages(carrel.__path__, "carrel."):
        if not module.name.startswith(("carrel.main", "carrel.sandbox.worker")):
            importlib.import_module(module.name)
    ours = {
        kind.code
        for kind in descendants(CarrelError)
        if kind.__module__.startswith("carrel.") and not kind.__module__.startswith(("carrel.main", "carrel.cli"))
    }
    assert ours >= {"unauthorized", "quota_exceeded", "model_not_found"}
    missing = {code for code in ours if code not in errors.STATUS}
    assert not missing, missing


def test_a_code_that_is_not_listed_has_its_ancestors_status() -> None:
    class Lost(NotFound):
        code = "lost"

    assert errors.status_of(Lost("x")) == 404
    assert errors.status_of(CarrelError("x")) == 500


def test_a_vendors_refusal_of_the_request_is_passed_on_and_of_our_key_is_not() -> None:
    assert errors.status_of(UpstreamError("x", status=400)) == 400
    assert errors.status_of(UpstreamError("x", status=429)) == 429
    assert errors.status_of(UpstreamError("x", status=401)) == 502
    assert errors.status_of(UpstreamError("x", status=500)) == 502


def test_problem_json() -> None:
    response = errors.render(InvalidRequest("bad", param="a.b"), dialect="problem", request_id=ID)
    assert response.status == 400
    assert response.content_type == "application/problem+json"
    body = json.loads(response.text or "")
    assert body == {
        "type": "urn:carrel:problem:invalid_request", "title": "Bad Request", "status": 400, "detail": "bad",
        "code": "invalid_request", "request_id": "req_1", "param": "a.b",
    }  # fmt: skip


def test_openai_has_type_code_and_param() -> None:
    body = errors.openai_error(InvalidRequest("bad", param="messages[0]"))["error"]
    assert (body["type"], body["code"], body["param"]) == ("invalid_request_error", "invalid_request", "messages[0]")
    assert errors.openai_error(Unauthorized())["error"]["type"] == "authentication_error"
    assert errors.openai_error(CarrelError("x"))["error"]["type"] == "server_error"
    assert errors.openai_error(TooLarge("x", details={"limit_bytes": 5}))["error"]["limit_bytes"] == 5


def test_a_quota_says_when_to_come_back() -> None:
    error = QuotaExceeded(
        "no more", quota="tokens_per_day", retry_after=4000.2, reset_at=datetime(2026, 3, 2, tzinfo=UTC)
    )
    response = errors.render(error, dialect="openai", request_id=ID)
    assert response.status == 429
    assert response.headers["Retry-After"] == "4001"
    assert response.headers["x-should-retry"] == "false"
    body = json.loads(response.text or "")["error"]
    assert body["reset_at"] == "2026-03-02T00:00:00+00:00"
    assert body["quota"] == "tokens_per_day"


def test_a_short_wait_may_be_retried_by_the_client() -> None:
    headers = errors.headers_of(RateLimited("slow down", retry_after=0.2))
    assert headers == {"Retry-After": "1"}


def test_json_rpc_has_a_code_in_the_servers_range() -> None:
    error = errors.rpc_error(NotFound("no"), request_id=ID)
    assert error.code == -32004
    assert error.data is not None
    assert error.data["code"] == "not_found"
    assert errors.rpc_error(InvalidRequest("no", param="x"), request_id=ID).code == -32602
    assert errors.rpc_error(CarrelError("no"), request_id=ID).code == -32603
    assert (
        json.loads(errors.render(Unauthorized(), dialect="jsonrpc", request_id=ID).text or "")["error"]["code"]
        == -32001
    )


def test_a_fault_of_ours_tells_only_the_request_id() -> None:
    assert "req_1" in errors.unexpected(ValueError("secret"), ID).message
    assert "secret" not in errors.unexpected(ValueError("secret"), ID).message
    assert errors.unexpected(OSError(errno.ENOTDIR, "x"), ID).code == "internal_error"


def test_a_disk_that_fails_is_no_fault_of_ours_and_can_be_tried_again() -> None:
    told = errors.unexpected(OSError(errno.EIO, "x", "/state/secret"), ID)
    assert (errors.status_of(told), told.code, told.retryable) == (503, "storage_failed", True)
    assert errors.headers_of(told)["Retry-After"] == "1"
    assert "/state" not in told.message
    data = errors.rpc_error(told, request_id=ID).data or {}
    assert (data["retryable"], data["retryAfterMs"]) == (True, 1000)
    assert errors.status_of(StorageFull("x")) == 507


def test_a_method_that_is_not_taken_names_those_that_are() -> None:
    assert errors.headers_of(errors.MethodNotAllowed("GET, POST"))["Allow"] == "GET, POST"
