from pathlib import Path

import pytest

from carrel.ids import TenantId
from carrel.reconcile import record as module
from carrel.reconcile.record import Good, Record

ACME = TenantId("acme")


def test_the_last_good_outlives_the_process(tmp_path: Path) -> None:
    record = Record.open(tmp_path)
    record.keep(ACME, "d1", "{}")
    record.keep_operators("r", {"_gateway.yaml": {}})
    assert record.good(ACME) == Good("d1", "{}")
    record.flush()
    record.close()
    again = Record.open(tmp_path)
    assert again.good(ACME) == Good("d1", "{}")
    assert again.good_operators() == {"_gateway.yaml": {}}
    assert again.digests() == {"acme": "d1"}
    assert again.good(TenantId("other")) is None
    again.close()
    assert (tmp_path / "reconcile").stat().st_mode & 0o777 == 0o700


def test_what_is_not_flushed_is_not_there(tmp_path: Path) -> None:
    record = Record.open(tmp_path)
    record.keep(ACME, "d1", "{}")
    record.close()
    again = Record.open(tmp_path)
    assert again.good(ACME) is None
    assert again.good_operators() is None
    again.close()


def test_the_cache_is_warm_only_when_it_is_asked_to_be(tmp_path: Path) -> None:
    record = Record.open(tmp_path)
    record.put("acme.yaml", "d1", "entry")
    record.flush()
    assert record.get("acme.yaml", "d1") is None
    record.warm()
    assert record.get("acme.yaml", "d1") == "entry"
    assert record.get("acme.yaml", "d2") is None
    record.cool()
    assert record.get("acme.yaml", "d1") is None
    record.close()


def test_other_models_throw_the_cache_away_and_keep_the_last_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record.open(tmp_path)
    record.put("acme.yaml", "d1", "entry")
    record.keep(ACME, "d1", "{}")
    record.flush()
    record.close()
    monkeypatch.setattr(module, "models_digest", lambda: "other")
    again = Record.open(tmp_path)
    again.warm()
    assert again.get("acme.yaml", "d1") is None
    assert again.good(ACME) is not None
    again.close()
