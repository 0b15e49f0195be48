"""A tenant's own authority: what it signs holds for that host alone, and only where its root is trusted."""

import ssl
from datetime import UTC, datetime

import pytest

from carrel.clock import SystemClock
from carrel.declare.hosts import canonical
from carrel.egress.authority import Authority, public_roots


def shaken(server: ssl.SSLContext, name: str, roots: bytes) -> str | None:
    """What is agreed on in a handshake in memory; raises SSLError."""
    client = ssl.create_default_context(cadata=roots.decode())
    client.set_alpn_protocols(["h2", "http/1.1"])
    a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
    inside, outside = client.wrap_bio(a, b, server_hostname=name), server.wrap_bio(b, a, server_side=True)
    for _ in range(8):
        for side in (inside, outside):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return inside.selected_alpn_protocol()


@pytest.mark.parametrize("name", ["api.example.com", "127.0.0.1", "::1", "xn--bcher-kva.example"])
def test_a_leaf_is_good_for_its_host(name: str) -> None:
    authority = Authority("acme", SystemClock())
    assert shaken(authority.context(canonical(name)), name, authority.certificate) == "http/1.1"


def test_a_leaf_is_bad_for_another_host_and_under_another_root() -> None:
    authority, other = Authority("acme", SystemClock()), Authority("zeta", SystemClock())
    context = authority.context(canonical("api.example.com"))
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(context, "b.example.com", authority.certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(context, "api.example.com", other.certificate)


def test_leaves_are_made_once() -> None:
    authority = Authority("acme", SystemClock())
    assert authority.context(canonical("a.com")) is authority.context(canonical("A.com"))
    assert authority.certificate == authority.certificate


def test_the_public_roots_are_a_bundle() -> None:
    assert public_roots().count(b"BEGIN CERTIFICATE") > 10
    assert datetime.now(UTC).year > 2000
