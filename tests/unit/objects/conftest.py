"""A file of some parts, and a place for it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.objects.harness import NAME, PART, Place


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of two whole parts and a rest, no block of which is as another."""
    path = tmp_path_factory.mktemp("source") / NAME
    path.write_bytes(os.urandom(2 * PART + 12345))
    return path


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.node.name).partition("[")[0]


@pytest.fixture
def conditional(request: pytest.FixtureRequest) -> bool:
    """One of the two servers ignores conditions."""
    return "rclone" not in request.node.name


@pytest.fixture
def place(url: str, prefix: str, conditional: bool) -> Iterator[Place]:
    made = Place(url, prefix, conditional=conditional)
    yield made
    made.files.close()
