"""Failed attempts by address."""

from carrel.http.attempts import FailedAttempts
from tests.fakes.clock import FakeClock


def make(clock: FakeClock, *, addresses: int = 100) -> FailedAttempts:
    return FailedAttempts(clock, limit=3, window=60, addresses=addresses)


def test_the_window_slides() -> None:
    clock = FakeClock()
    attempts = make(clock)
    assert [attempts.record("192.0.2.1") for _ in range(3)] == [None, None, None]
    clock.advance(20)
    assert attempts.record("192.0.2.1") == 40
    clock.advance(40.5)
    assert attempts.record("192.0.2.1") is None


def test_addresses_are_counted_apart() -> None:
    attempts = make(FakeClock())
    for _ in range(4):
        attempts.record("192.0.2.1")
    assert attempts.record("192.0.2.2") is None


def test_an_ipv6_caller_owns_its_64() -> None:
    attempts = make(FakeClock())
    for n in range(3):
        assert attempts.record(f"2001:db8::{n}") is None
    assert attempts.record("2001:db8::ffff") is not None
    assert attempts.record("2001:db8:0:1::1") is None
    assert attempts.record("not an address") is None


def test_memory_is_bounded() -> None:
    attempts = make(FakeClock(), addresses=2)
    for _ in range(4):
        attempts.record("192.0.2.1")
    attempts.record("192.0.2.2")
    attempts.record("192.0.2.3")
    assert attempts.record("192.0.2.1") is None
