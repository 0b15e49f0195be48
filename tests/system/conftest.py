"""One gateway for the tests that only look, and fresh ones for those that break it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.gateway_process import GatewayProcess

StartGateway = Callable[..., GatewayProcess]


@pytest.fixture
def new_gateway(tmp_path: Path) -> Iterator[StartGateway]:
    """Makes gateways that are stopped at the end, whatever happened."""
    made: list[GatewayProcess] = []

    def make(name: str = "home", *, sample: bool = True, **options: object) -> GatewayProcess:
        gateway = GatewayProcess(home=tmp_path / name, **options)  # type: ignore[arg-type] # fields by name
        made.append(gateway)
        return gateway.prepare(sample=sample)

    yield make
    for gateway in made:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.stop()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with the sample tenants, shared by a module's tests."""
    running = GatewayProcess(home=tmp_path_factory.mktemp("gateway") / "home").prepare().start()
    yield running
    assert running.stop() == 0, running.text
