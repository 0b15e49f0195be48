"""A running edge, and the command line pointed at it."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog

from carrel.cli.app import build_app, execute
from carrel.cli.gateway_options import GatewayOptions
from carrel.telemetry import configure_logging
from tests.fakes.edge import Edge, running_edge


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class CommandLine:
    """`carrel WORDS` in this process. The state directory is the edge's unless the words say another."""

    state: Path
    capture: pytest.CaptureFixture[str]
    started: list[GatewayOptions] = field(default_factory=list)
    gateway_ends_with: int = 0

    def run(self, *words: str) -> Done:
        self.capture.readouterr()
        code = execute(build_app(self._gateway), words)
        wrote = self.capture.readouterr()
        return Done(code, wrote.out, wrote.err)

    async def __call__(self, *words: str) -> Done:
        """The same beside a loop that goes on serving."""
        return await asyncio.to_thread(self.run, *words)

    def _gateway(self, options: GatewayOptions) -> int:
        self.started.append(options)
        return self.gateway_ends_with


@pytest.fixture(autouse=True)
def no_log_among_the_answers() -> Iterator[None]:
    """The edge logs in this very process, whose output is what the tests look at."""
    configure_logging(stream=io.StringIO())
    yield
    structlog.reset_defaults()


@pytest.fixture
def carrel(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    for name in ("CARREL_URL", "CARREL_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CARREL_STATE_DIR", str(tmp_path))
    return CommandLine(tmp_path, capsys)


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    """An edge whose control socket is where the command line looks for it."""
    async with started_edge(tmp_path) as running:
        yield running


def started_edge(state: Path, **overrides: Any) -> Any:
    (state / "run").mkdir(parents=True, exist_ok=True)
    (state / "run" / "control.sock").symlink_to(state / "control.sock")
    return running_edge(state, **overrides)


Serve = Callable[..., Any]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """For a test that chooses what is behind the edge."""
    return lambda **overrides: started_edge(tmp_path, **overrides)
