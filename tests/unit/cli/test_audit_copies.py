"""Copies of the audit log: pages are followed to their end, and a copy has the days that were asked for."""

import asyncio
from pathlib import Path

import pytest

from carrel.cli.audit_copies import copy_out, pages
from carrel.cli.failures import Refused
from carrel.cli.options import Target
from tests.fakes.records import three_days
from tests.unit.cli.conftest import started_edge


async def test_pages_are_followed_to_their_end(tmp_path: Path) -> None:
    audit = await three_days(tmp_path)
    async with started_edge(tmp_path, audit=audit):
        target = Target(tmp_path)
        lines = await asyncio.to_thread(lambda: list(pages(target, {}, limit=4)))
        assert [line["n"] for line in lines] == list(range(1, 14))
        last = await asyncio.to_thread(lambda: list(pages(target, {"order": "newest", "tenant": "acme"}, limit=4)))
        assert [line["n"] for line in last] == [12, 10, 8, 6, 4, 2]


async def test_a_copy_has_whole_days_and_their_ends(tmp_path: Path) -> None:
    audit = await three_days(tmp_path)
    async with started_edge(tmp_path, audit=audit):
        target = Target(tmp_path)
        copy = tmp_path / "copy"
        count = await asyncio.to_thread(lambda: copy_out(target, copy, first="2026-03-02", last="2026-03-03"))
        assert count == 8
        assert sorted(path.name for path in copy.iterdir()) == [
            "2026-03-02.jsonl", "2026-03-03.jsonl", "audit-signing-key.pub", "head.json", "heads.jsonl",
        ]  # fmt: skip
        assert len((copy / "heads.jsonl").read_text().splitlines()) == 3
        with pytest.raises(Refused, match="File exists"):
            await asyncio.to_thread(lambda: copy_out(target, copy, first=None, last=None))
