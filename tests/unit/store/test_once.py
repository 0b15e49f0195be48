"""Idempotency keys."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carrel.store.once import KEPT, KeyReused, OnceStore
from carrel.tenancy.handle import Tenant
from tests.fakes.tenants import make_tenant

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
async def store() -> AsyncIterator[OnceStore]:
    made = OnceStore()
    yield made
    await made.close()


@pytest.fixture
def acme(tmp_path: Path) -> Tenant:
    return make_tenant(tmp_path)


async def test_a_key_is_new_once_then_again_then_done(store: OnceStore, acme: Tenant) -> None:
    assert (await store.begin(acme, "k", "d", now=NOW)).state == "new"
    assert (await store.begin(acme, "k", "d", now=NOW)).state == "again"
    await store.finish(acme, "k", '{"ok": true}')
    done = await store.begin(acme, "k", "d", now=NOW)
    assert (done.state, done.answer) == ("done", '{"ok": true}')


async def test_a_key_is_for_one_call(store: OnceStore, acme: Tenant) -> None:
    await store.begin(acme, "k", "d", now=NOW)
    with pytest.raises(KeyReused):
        await store.begin(acme, "k", "other", now=NOW)
    await store.forget(acme, "k")
    assert (await store.begin(acme, "k", "other", now=NOW)).state == "new"


async def test_a_key_is_kept_a_day_and_over_a_restart(store: OnceStore, acme: Tenant) -> None:
    await store.begin(acme, "k", "d", now=NOW)
    another = OnceStore()
    assert (await another.begin(acme, "k", "d", now=NOW)).state == "again"
    await another.close()
    assert (await store.begin(acme, "k", "d", now=NOW + KEPT + timedelta(seconds=1))).state == "new"
