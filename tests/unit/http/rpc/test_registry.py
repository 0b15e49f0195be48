"""The registry: types in, types out, and every error as the specification has it."""

from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import Field

from carrel.errors import Conflict
from carrel.http.rpc.methods import REGISTRY as METHODS
from carrel.http.rpc.registry import ALL_SCOPES, Context, Registry
from carrel.ids import RequestId
from carrel.wire import jsonrpc
from carrel.wire.rpc import OwnTenant, Params, Result


class AddParams(Params):
    """Two numbers."""

    first_number: int
    second: int = Field(1, ge=0)


class Sum(Result):
    """Their sum."""

    whole_sum: int
    note: str | None = None


REGISTRY = Registry()


@REGISTRY.method("sums.add")
async def add(context: Context, params: AddParams) -> Sum:
    """Add two numbers.

    And nothing else.
    """
    if params.second == 13:
        raise Conflict("Not that one.")
    if params.second == 14:
        raise ZeroDivisionError("a secret detail")
    return Sum(whole_sum=params.first_number + params.second)


@REGISTRY.method("sums.wipe", scope="admin")
async def wipe(context: Context, params: OwnTenant) -> Sum:
    """Wipe."""
    return Sum(whole_sum=0)


@REGISTRY.method("sums.get")
async def get(context: Context, params: OwnTenant) -> Sum:
    """The last."""
    return Sum(whole_sum=0)


def context(*scopes: str, role: str | None = None) -> Context:
    tenant: Any = SimpleNamespace(id="acme", member="eve", role=role)
    anything: Any = None
    return Context(anything, tenant, anything, RequestId("req_9"), "t", frozenset(scopes) or ALL_SCOPES)


async def call(method: str, params: Any = None, *, scopes: tuple[str, ...] = ()) -> dict[str, Any]:
    return await REGISTRY.call(context(*scopes), jsonrpc.Call(1, method, params))


async def test_a_viewer_calls_what_looks_and_an_operator_for_one_calls_all() -> None:
    look, add = jsonrpc.Call(1, "sums.get", {}), jsonrpc.Call(1, "sums.add", {"firstNumber": 1})
    assert "result" in await REGISTRY.call(context("rpc", role="viewer"), look)
    assert "result" in await REGISTRY.call(context("rpc", role="member"), add)
    assert "result" in await REGISTRY.call(context(role="viewer"), add)
    refused = await REGISTRY.call(context("rpc", role="viewer"), add)
    assert "may only look" in refused["error"]["message"]


def test_every_method_that_looks_says_so_by_its_last_word() -> None:
    looks = {method.name for method in METHODS if method.reads}
    assert {"health", "tenants.get", "tenants.quota.status", "sessions.list", "packages.search"} <= looks
    changing = {"create", "send", "set", "patch", "delete", "add", "remove", "rotate", "decide", "reset", "update"}
    assert not {name for name in looks if name.rpartition(".")[2] in changing}


async def test_named_and_positional_parameters() -> None:
    assert (await call("sums.add", {"firstNumber": 2, "second": 3}))["result"] == {"wholeSum": 5}
    assert (await call("sums.add", [2, 3]))["result"] == {"wholeSum": 5}
    assert (await call("sums.add", [2]))["result"] == {"wholeSum": 3}


@pytest.mark.parametrize(
    ("params", "path"),
    [({}, "firstNumber"), ({"firstNumber": "2"}, "firstNumber"), ({"firstNumber": 1, "x": 1}, "x"),
     ({"firstNumber": 1, "second": -1}, "second")],
)  # fmt: skip
async def test_bad_parameters_are_named(params: dict[str, Any], path: str) -> None:
    error = (await call("sums.add", params))["error"]
    assert error["code"] == jsonrpc.INVALID_PARAMS
    assert error["data"]["path"] == path


async def test_too_many_positional_parameters() -> None:
    assert (await call("sums.add", [1, 2, 3]))["error"]["code"] == jsonrpc.INVALID_PARAMS


async def test_an_unknown_method_is_told_the_nearest_name() -> None:
    error = (await call("sums.ad"))["error"]
    assert error["code"] == jsonrpc.METHOD_NOT_FOUND
    assert error["data"] == {"nearest": "sums.add"}
    assert "data" not in (await call("zzz"))["error"]


async def test_errors_of_ours_and_faults() -> None:
    refused = (await call("sums.add", [1, 13]))["error"]
    assert refused["data"]["code"] == "conflict"
    fault = (await call("sums.add", [1, 14]))["error"]
    assert fault["code"] == jsonrpc.INTERNAL_ERROR
    assert "req_9" in fault["message"]
    assert "secret" not in str(fault)


async def test_scopes_are_asked_for() -> None:
    assert (await call("sums.wipe", scopes=("rpc",)))["error"]["data"]["code"] == "forbidden"
    assert "result" in await call("sums.wipe", scopes=("rpc", "admin"))


async def test_a_tenant_id_is_ones_own_or_refused_the_same_for_all() -> None:
    assert "result" in await call("sums.wipe", {"tenantId": "acme"})
    answers = [await call("sums.wipe", {"tenantId": other}) for other in ("bravo", "nobody")]
    assert answers[0] == answers[1]
    assert answers[0]["error"]["data"]["code"] == "forbidden"


def test_the_registry_knows_summaries_and_refuses_a_second_of_a_name() -> None:
    assert [(m.name, m.summary, m.scope) for m in REGISTRY] == [
        ("sums.add", "Add two numbers.", "rpc"), ("sums.get", "The last.", "rpc"), ("sums.wipe", "Wipe.", "admin"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"sums\.add"):
        REGISTRY.method("sums.add")(add)


def test_a_method_that_does_not_only_look_takes_a_key_or_says_what_it_does_when_it_is_repeated() -> None:
    for method in METHODS:
        said = [method.changes, method.reads, bool(method.repeated)]
        assert sum(said) == 1, (
            f"{method.name}: register it with `changes=True`, and it takes an idempotency key; or with `repeated=`, "
            "which ends the sentence 'Repeated, it …' of the reference; or, where it only looks, by a word of LOOKS"
        )
