"""The test set at hand, and the sample's environment built once for all tests of this room."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.packageset import Built, built_index, built_sample, fetched, nixpkgs_stand_in


@pytest.fixture(scope="session")
def debs() -> Path:
    """The directory of the Debian packages."""
    return fetched()


@pytest.fixture(scope="session")
def stand_in(debs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that answers like nixpkgs for the few things that our expressions ask of it."""
    return nixpkgs_stand_in(tmp_path_factory.mktemp("nixpkgs"), debs)


@pytest.fixture(scope="session")
def index(built: Built, stand_in: Path) -> Path:
    """The index of some of the set's packages, whose store is that of ``built``."""
    return built_index(built, stand_in)


@pytest.fixture(scope="session")
def built() -> Iterator[Built]:
    with built_sample() as made:
        yield made
