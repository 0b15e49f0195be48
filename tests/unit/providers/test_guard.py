"""What stands before every call of a provider."""

from dataclasses import replace
from pathlib import Path

import pytest

from carrel.declare.base import SecretRef
from carrel.declare.gateway import CircuitConfig, ProviderConfig
from carrel.declare.tenant import TenantProvider
from carrel.errors import InvalidRequest, UpstreamAuth, UpstreamError, UpstreamTimeout
from carrel.providers.guard import CircuitOpen, Guard, counts_as_failure
from carrel.tenancy.handle import Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_tenant

CONFIG = ProviderConfig(kind="openai", max_connections=2, circuit=CircuitConfig(failures=2, open_seconds=5))
DOWN = UpstreamError("down", status=503)


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    return make_tenant(tmp_path, "acme")


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (DOWN, True), (UpstreamError("gone", details={"reason": "connection"}), True), (UpstreamTimeout("late"), True),
        (UpstreamAuth("key", status=401), True), (UpstreamError("busy", status=429), False),
        (UpstreamError("bad", status=400), False), (UpstreamError("none", details={"reason": "no_key"}), False),
        (CircuitOpen("open", details={"reason": "circuit_open"}), False), (InvalidRequest("bad"), False),
        (KeyboardInterrupt(), False),
    ],
)  # fmt: skip
def test_what_is_a_failure_of_the_provider(error: BaseException, counts: bool) -> None:
    assert counts_as_failure(error) is counts


async def test_a_provider_that_fails_is_left_alone_and_its_places_are_free(tenant: Tenant) -> None:
    clock = FakeClock()
    guard = Guard(clock)
    for _ in range(2):
        (await guard.enter(tenant, "p", CONFIG)).end(DOWN)
    with pytest.raises(CircuitOpen) as refused:
        await guard.enter(tenant, "p", CONFIG)
    assert refused.value.retry_after == 5
    with pytest.raises(CircuitOpen):
        guard.enter_now(tenant, "p", CONFIG)
    [told] = guard.report()
    assert (told.name, told.circuit, told.running, told.failures, told.opened) == ("p", "open", 0, 2, 1)
    assert guard.gauges()["carrel_provider_circuit"]["p", "open"] == 1.0
    (await guard.enter(tenant, "other", CONFIG)).end()
    clock.advance(5)
    ticket = guard.enter_now(tenant, "p", CONFIG)
    assert ticket is not None
    ticket.end()
    assert guard.report()[1].circuit == "closed"


async def test_a_tenants_own_key_has_a_circuit_of_its_own(tenant: Tenant, tmp_path: Path) -> None:
    own = TenantProvider(api_key=SecretRef(secret="MINE"))
    with_key = replace(tenant, config=tenant.config.model_copy(update={"providers": {"p": own}}))
    other = make_tenant(tmp_path, "bravo")
    guard = Guard(FakeClock())
    for _ in range(2):
        (await guard.enter(with_key, "p", CONFIG)).end(UpstreamAuth("wrong key", status=401))
    with pytest.raises(CircuitOpen):
        await guard.enter(with_key, "p", CONFIG)
    (await guard.enter(other, "p", CONFIG)).end()
    assert guard.report()[0].circuit == "closed"


async def test_where_no_place_is_free_nothing_is_let_through_at_once(tenant: Tenant) -> None:
    guard = Guard(FakeClock())
    first = guard.enter_now(tenant, "p", CONFIG)
    assert guard.enter_now(tenant, "p", CONFIG) is not None
    assert guard.enter_now(tenant, "p", CONFIG) is None
    assert first is not None
    first.end()
    assert guard.enter_now(tenant, "p", CONFIG) is not None
    assert guard.gauges()["carrel_provider_calls"]["p", "running"] == 2.0
