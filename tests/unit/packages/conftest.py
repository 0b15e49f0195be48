"""The test set at hand, and the sample's environment built once for all tests of this room."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.packageset import Built, built_sample, fetched


@pytest.fixture(scope="session")
def debs() -> Path:
    """The directory of the Debian packages."""
    return fetched()


@pytest.fixture(scope="session")
def built() -> Iterator[Built]:
    with built_sample() as made:
        yield made
