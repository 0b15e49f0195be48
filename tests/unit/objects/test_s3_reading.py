"""An object that is read from where it broke off."""

import os
from pathlib import Path

import pytest

from carrel.objects.protocol import ObjectChanged, StoreRefused
from tests.fakes.s3_servers import (
    Exchange,
    FaultyProxy,
    cut_after,
    sign_anew,
    status,
)
from tests.unit.objects.harness import NAME, PART, Place, gets


def test_read_on_from_where_it_broke_off(url: str, source: Path, prefix: str, conditional: bool) -> None:
    with FaultyProxy(url) as proxy:
        place = Place(proxy.url, prefix, conditional=conditional)
        place.send(source)
        proxy.after += [cut_after(PART, name=NAME), cut_after(3 << 20, name=NAME), cut_after(0, name=NAME)]
        proxy.before += status(503, method="GET", name=NAME, says="SlowDown")
        before = place.told
        assert place.content() == source.read_bytes()
        assert place.told - before == source.stat().st_size
        assert gets(proxy) == 5
        place.files.close()


def test_one_that_is_replaced_while_it_is_read(
    url: str, source: Path, tmp_path: Path, prefix: str, conditional: bool
) -> None:
    with FaultyProxy(url) as proxy:
        place = Place(proxy.url, prefix, conditional=conditional)
        place.send(source)
        other = tmp_path / "other"
        other.write_bytes(os.urandom(source.stat().st_size))
        proxy.after.append(cut_after(1 << 20, name=NAME))
        stream, _ = place.files.read(NAME, counts=place.count)
        stream.read(1 << 19)
        Place(url, prefix).send(other, replaces=True)
        with pytest.raises(ObjectChanged, match="replaced"), stream:
            stream.read()
        place.files.close()


def test_a_store_that_gives_no_part_of_an_object(seaweed_url: str, source: Path) -> None:
    with FaultyProxy(seaweed_url) as proxy:
        place = Place(proxy.url, "whole-only")
        place.send(source)

        def whole(exchange: Exchange) -> bool:
            if exchange.headers.pop("Range", None) is not None:
                sign_anew(exchange)
            return False

        proxy.before.append(whole)
        proxy.after.append(cut_after(1 << 20, name=NAME))
        with pytest.raises(StoreRefused, match="broke off"):
            place.content()
        place.files.close()
