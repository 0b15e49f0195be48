from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carrel.store.control_once import NAME, ControlOnceStore
from carrel.store.once import KeyReused, Once

NOW = datetime(2026, 3, 1, tzinfo=UTC)


async def test_keys_are_each_operators_own_and_kept_a_day(tmp_path: Path) -> None:
    store = ControlOnceStore(tmp_path)
    assert not (tmp_path / NAME).exists()
    assert await store.begin("ak_ops", "k", "d1", now=NOW) == Once("new")
    assert await store.begin("ak_ops", "k", "d1", now=NOW) == Once("again")
    assert await store.begin("uid:0", "k", "d2", now=NOW) == Once("new")
    await store.finish("ak_ops", "k", "{}")
    with pytest.raises(KeyReused):
        await store.begin("ak_ops", "k", "d3", now=NOW)
    await store.forget("uid:0", "k")
    await store.close()
    again = ControlOnceStore(tmp_path)
    assert await again.begin("ak_ops", "k", "d1", now=NOW) == Once("done", "{}")
    assert await again.begin("uid:0", "k", "d2", now=NOW) == Once("new")
    assert await again.begin("ak_ops", "k", "d3", now=NOW + timedelta(hours=25)) == Once("new")
    await again.close()
    await again.close()
