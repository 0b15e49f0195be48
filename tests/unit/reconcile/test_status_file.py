import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carrel.errors import CarrelError
from carrel.reconcile import status_file
from carrel.reconcile.inventory import Deleted
from carrel.reconcile.status import ReconcileStatus
from tests.fakes.rows import row

AT = datetime(2026, 3, 1, tzinfo=UTC)
HOUSE = ReconcileStatus("Ready", "r", "/d", "inotify", AT, 0.1, (), (), "", (Deleted("old", AT, "b"),), ())


def test_it_is_one_json_document_with_every_tenant(tmp_path: Path) -> None:
    status_file.write(tmp_path, HOUSE, [row("acme"), row("bravo")], version="1")
    told = json.loads((tmp_path / "status.json").read_text())
    assert (told["version"], told["state"], [t["id"] for t in told["tenants"]]) == ("1", "Ready", ["acme", "bravo"])
    assert told["deleted"][0]["at"] == "2026-03-01T00:00:00+00:00"
    assert (tmp_path / "status.json").stat().st_mode & 0o777 == 0o600
    status_file.write(tmp_path, HOUSE, [], version="1")
    assert json.loads((tmp_path / "status.json").read_text())["tenants"] == []


def test_where_it_cannot_be_written_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(CarrelError, match=r"status\.json"):
        status_file.write(tmp_path / "missing", HOUSE, [], version="1")
    (tmp_path / "status.json").mkdir()
    with pytest.raises(CarrelError, match=r"status\.json"):
        status_file.write(tmp_path, HOUSE, [], version="1")
    assert [one.name for one in tmp_path.iterdir()] == ["status.json"], "what is half written takes room"
