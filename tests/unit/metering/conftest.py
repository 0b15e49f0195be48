"""What tests of this room stand on."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from carrel.ids import TenantId
from carrel.metering.ledger import open_ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[apsw.Connection]:
    (tmp_path / "tenants/acme").mkdir(parents=True)
    connection = open_ledger(tmp_path, TenantId("acme"))
    yield connection
    connection.close()
