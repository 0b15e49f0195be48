"""The circuit breaker, by a clock that the test moves."""

import pytest

from carrel.declare.gateway import CircuitConfig
from carrel.providers.circuit import Circuit
from tests.fakes.clock import FakeClock

CONFIG = CircuitConfig(failures=3, window_seconds=10, open_seconds=5)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def stands(circuit: Circuit) -> str:
    return circuit.state


def failing(circuit: Circuit, times: int = 3) -> None:
    for _ in range(times):
        assert circuit.admit(CONFIG) is None
        circuit.failed(CONFIG)


def test_enough_failures_open_it_and_a_probe_that_works_closes_it(clock: FakeClock) -> None:
    circuit = Circuit(clock)
    failing(circuit)
    assert stands(circuit) == "open"
    assert circuit.admit(CONFIG) == 5
    clock.advance(4)
    assert circuit.admit(CONFIG) == 1
    clock.advance(1)
    assert circuit.admit(CONFIG) is None, "one tries"
    assert stands(circuit) == "half_open"
    assert circuit.admit(CONFIG) == 1.0, "and one alone"
    circuit.succeeded(CONFIG)
    assert (stands(circuit), circuit.admit(CONFIG), circuit.admit(CONFIG)) == ("closed", None, None)
    assert (circuit.failures, circuit.opened) == (3, 1)


def test_a_probe_that_fails_opens_it_again_and_one_that_is_given_up_lets_another_try(clock: FakeClock) -> None:
    circuit = Circuit(clock)
    failing(circuit)
    clock.advance(5)
    assert circuit.admit(CONFIG) is None
    circuit.left()
    assert circuit.admit(CONFIG) is None
    circuit.failed(CONFIG)
    assert (stands(circuit), circuit.admit(CONFIG)) == ("open", 5)


def test_failures_that_are_few_among_many_or_long_ago_do_not_count(clock: FakeClock) -> None:
    circuit = Circuit(clock)
    for _ in range(4):
        circuit.succeeded(CONFIG)
    failing(circuit)
    assert stands(circuit) == "closed"
    clock.advance(11)
    failing(circuit, 2)
    clock.advance(11)
    failing(circuit, 2)
    assert stands(circuit) == "closed"
    failing(circuit, 1)
    assert stands(circuit) == "open"


def test_without_a_number_it_never_opens(clock: FakeClock) -> None:
    circuit, config = Circuit(clock), CircuitConfig(failures=None)
    for _ in range(100):
        assert circuit.admit(config) is None
        circuit.failed(config)
    assert stands(circuit) == "closed"


def test_what_ends_after_it_opened_says_nothing_new(clock: FakeClock) -> None:
    circuit = Circuit(clock)
    failing(circuit)
    circuit.failed(CONFIG)
    assert (stands(circuit), circuit.opened) == ("open", 1)
