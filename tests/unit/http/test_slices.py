"""Long JSON in slices."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from carrel.http import slices
from carrel.http.slices import document, members


class Named(BaseModel):
    name: str


@dataclass(frozen=True)
class Inner:
    price: Decimal
    texts: tuple[str, ...] = ()
    named: Mapping[str, Named] = field(default_factory=dict)


@dataclass(frozen=True)
class Outer:
    inner: Inner
    items: tuple[Inner, ...] = ()
    models: tuple[Named, ...] = (Named(name="a\u2028b"),)


VALUES: tuple[Any, ...] = (
    {}, [], None, 3, "a\"b", (), Named(name="x"), Outer(Inner(Decimal("1.10"))), {1: "a"}, [1, [2, {}]],
    Outer(Inner(Decimal(2), ("x", "y"), {"k\n": Named(name="v")}), (Inner(Decimal(0)),) * 3),
    MappingProxyType({"a": {"b": {"c": {"d": {"e": [1]}}}}, "n": None}),
)  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
async def test_it_is_the_json_that_one_call_would_give(value: Any) -> None:
    body = (await document(value)).body
    assert isinstance(body, bytes)
    whole = value if not isinstance(value, MappingProxyType) else dict(value)
    assert json.loads(body) == json.loads(TypeAdapter(object).dump_json(whole))


async def test_others_have_their_turn_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0.0)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(other())
    await document({"tenants": [Inner(Decimal(n)) for n in range(100)]})
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert turns > 100


def test_what_a_report_has_by_name() -> None:
    assert members(Inner(Decimal(1))) == {"price": Decimal(1), "texts": (), "named": {}}
    assert members({"a": 1}) == {"a": 1}
    assert members(5) == {}
