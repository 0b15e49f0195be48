"""A house with a gate for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.egress import EgressHouse, egress_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[EgressHouse]:
    """An Egress with one tenant, and hosts on loopback."""
    async with egress_house(tmp_path) as made:
        yield made
