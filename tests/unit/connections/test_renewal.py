"""Tokens that are renewed: once for all who wait, durably, and what is done where the vendor fails."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from carrel.connections.record import ConnectionUnusable
from carrel.errors import CarrelError, StorageFull, UpstreamError
from carrel.secrets import Secret
from carrel.tenancy.handle import Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.connections import Linking, linking
from tests.fakes.patience import eventually


async def token(house: Linking) -> str:
    found: Secret = await house.connections.token(house.tenant, "vendor", provider="vendor")
    return found.reveal()


async def test_a_token_is_renewed_before_its_end_and_once_for_all_who_wait(tmp_path: Path) -> None:
    clock = FakeClock()
    async with linking(tmp_path, clock=clock) as house:
        await house.linked()
        first = await token(house)
        clock.advance(3600 - 121)
        assert await token(house) == first
        clock.advance(2)
        house.vendor.knobs.token_delay = 0.1
        tokens = set(await asyncio.gather(*(token(house) for _ in range(20))))
        (grant,) = house.vendor.grants
        assert tokens == {grant.access[-1]}
        assert len(grant.access) == 2
        assert not grant.over
        clock.advance(3500)
        house.vendor.knobs.token_delay = 0.0
        assert await token(house) == grant.access[-1]
        assert len(grant.refresh) == 3


async def test_who_goes_away_meanwhile_does_not_end_it(tmp_path: Path) -> None:
    clock = FakeClock()
    async with linking(tmp_path, clock=clock) as house:
        await house.linked()
        clock.advance(3600)
        house.vendor.knobs.token_delay = 0.2
        waiting = asyncio.create_task(token(house))
        (grant,) = house.vendor.grants
        await eventually(lambda: len(grant.access) == 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await token(house) == grant.access[1]
        assert len(grant.access) == 2


async def test_where_the_vendor_fails_the_old_one_is_used_to_its_end_and_it_is_not_pressed(tmp_path: Path) -> None:
    clock = FakeClock()
    async with linking(tmp_path, clock=clock) as house:
        await house.linked()
        first = await token(house)
        clock.advance(3500)
        house.vendor.knobs.token_status = 503
        for _ in range(3):
            assert await token(house) == first
        assert sum(one["path"] == "/token" for one in house.vendor.log) == 2
        clock.advance(101)
        with pytest.raises(UpstreamError):
            await token(house)
        house.vendor.knobs.token_status = 200
        assert await token(house) != first


async def test_a_refusal_means_to_link_it_again_and_says_so(tmp_path: Path) -> None:
    clock = FakeClock()
    async with linking(tmp_path, clock=clock) as house:
        await house.linked()
        house.vendor.grants[0].over = True
        clock.advance(3600)
        for _ in range(2):
            with pytest.raises(ConnectionUnusable, match="takes its refresh token no more"):
                await token(house)
        (one,) = await house.connections.list(house.tenant)
        assert one.state == "needs_relink"
        assert house.audit.recorded[-1] == ("connections.needs_relink", "vendor", "ok")
        assert "needs_relink" in house.told[-1]
        assert sum(entry["path"] == "/token" for entry in house.vendor.log) == 2
        await house.linked()
        assert await token(house) == house.vendor.grants[1].access[0]


async def test_a_client_that_the_vendor_does_not_know_is_the_operators_to_mend(tmp_path: Path) -> None:
    clock = FakeClock()
    async with linking(tmp_path, clock=clock) as house:
        await house.linked()
        clock.advance(3600)
        house.vendor.secret = "changed"
        with pytest.raises(CarrelError, match="invalid_client"):
            await token(house)
        (one,) = await house.connections.list(house.tenant)
        assert one.state == "ok"


async def test_without_a_refresh_token_it_is_good_to_its_end(tmp_path: Path) -> None:
    clock = FakeClock()
    async with linking(tmp_path, clock=clock) as house:
        house.vendor.knobs.refresh = False
        await house.linked()
        clock.advance(3599)
        await token(house)
        clock.advance(1)
        with pytest.raises(ConnectionUnusable, match="gave none to renew"):
            await token(house)


async def test_a_vendor_that_keeps_its_refresh_token(tmp_path: Path) -> None:
    clock = FakeClock()
    async with linking(tmp_path, clock=clock) as house:
        house.vendor.knobs.rotates = False
        await house.linked()
        for _ in range(3):
            clock.advance(3600)
            await token(house)
        assert [len(house.vendor.grants[0].access), len(house.vendor.grants[0].refresh)] == [4, 1]


async def test_a_disk_that_is_full_is_waited_for_with_what_the_vendor_gave(tmp_path: Path) -> None:
    clock = FakeClock()
    async with linking(tmp_path, clock=clock) as house:
        await house.linked()
        clock.advance(3600)
        shelf: Any = house.connections._shelf
        put, calls = shelf.put, []

        def full(tenant: Tenant, connection: Any) -> None:
            calls.append(connection)
            # The mark that one is begun, and then what came of it.
            if len(calls) in (2, 3):
                raise StorageFull("The disk is full.")
            put(tenant, connection)

        shelf.put = full
        waiting = asyncio.create_task(token(house))
        await eventually(lambda: len(calls) == 2 and clock._sleepers)
        clock.advance(1)
        await eventually(lambda: len(calls) == 3 and clock._sleepers)
        clock.advance(1)
        assert await waiting == house.vendor.grants[0].access[1]
        (one,) = await house.connections.list(house.tenant)
        assert one.refresh == house.vendor.grants[0].refresh[1]


async def test_one_that_is_removed_meanwhile_does_not_come_back(tmp_path: Path) -> None:
    clock = FakeClock()
    async with linking(tmp_path, clock=clock) as house:
        await house.linked()
        clock.advance(3600)
        house.vendor.knobs.token_delay = 0.2
        waiting = asyncio.create_task(token(house))
        await eventually(lambda: len(house.vendor.grants[0].access) == 2)
        await house.connections.remove(house.directory.current, house.tenant, "vendor", shared=True)
        await waiting
        assert await house.connections.list(house.tenant) == []
        assert house.vendor.grants[0].over
