"""A launcher for each test."""

from collections.abc import Iterator

import pytest

from tests.fakes.launcher import LauncherProcess, launcher_process


@pytest.fixture
def started() -> Iterator[LauncherProcess]:
    """A launcher, ended afterwards."""
    with launcher_process() as process:
        yield process
