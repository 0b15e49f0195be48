"""Links that are good once, and the ways that they begin."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.connections.links import LINK_SECONDS, MOST_LINKS, Links, digest
from carrel.errors import RateLimited
from carrel.tenancy.handle import Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_tenant


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    made = make_tenant(tmp_path)
    yield made
    made.root.close()


def made(links: Links, tenant: Tenant) -> str:
    return links.make(tenant, provider="vendor", name="vendor", scopes=("read",), by="me")[0]


def test_a_link_has_more_than_128_bits_is_kept_by_digest_and_is_used_once(tenant: Tenant) -> None:
    links = Links(FakeClock())
    text = made(links, tenant)
    assert len(text) >= 43
    assert text not in repr(vars(links))
    assert digest(text) in links._links
    assert links.look("vendor", text) is not None
    assert links.look("other", text) is None
    begun = links.begin("vendor", text, redirect_uri="https://here/oauth/callback")
    assert begun is not None
    assert links.look("vendor", text) is None
    assert links.begin("vendor", text, redirect_uri="x") is None
    way, state, browser = begun
    for secret in (state, browser):
        assert secret not in repr({key: value for key, value in vars(links).items() if key != "_clock"})
    assert links.end(state, "another browser") is None
    assert links.end("another state", browser) is None
    assert links.end(state, browser) is way
    assert links.end(state, browser) is None


def test_both_are_over_after_ten_minutes(tenant: Tenant) -> None:
    clock = FakeClock()
    links = Links(clock)
    text, other = made(links, tenant), made(links, tenant)
    begun = links.begin("vendor", other, redirect_uri="x")
    assert begun is not None
    clock.advance(LINK_SECONDS - 1)
    assert links.look("vendor", text) is not None
    clock.advance(1)
    assert links.look("vendor", text) is None
    assert links.end(begun[1], begun[2]) is None


def test_a_tenant_has_so_many_at_a_time(tenant: Tenant) -> None:
    clock = FakeClock()
    links = Links(clock)
    for _ in range(MOST_LINKS):
        made(links, tenant)
    with pytest.raises(RateLimited):
        made(links, tenant)
    clock.advance(LINK_SECONDS)
    made(links, tenant)
