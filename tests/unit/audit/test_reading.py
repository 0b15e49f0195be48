"""Lines are found from either end, by what is asked of them, page by page."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from carrel.audit.log import Audit
from carrel.wire.control import AuditQuery
from tests.fakes.clock import FakeClock
from tests.fakes.records import add, opened, three_days


async def numbers(audit: Audit, **asked: Any) -> list[int]:
    """All that are found, over pages of three lines."""
    found: list[int] = []
    after: str | None = None
    while True:
        page = await audit.page(AuditQuery(limit=3, after=after, **asked))
        found += [int(str(line["n"])) for line in page.lines]
        if page.next is None:
            return found
        after = page.next


async def test_pages_from_either_end_have_every_line_once(tmp_path: Path) -> None:
    audit = await three_days(tmp_path)
    assert await numbers(audit) == list(range(1, 14))
    assert await numbers(audit, order="newest") == list(range(13, 0, -1))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"tenant": "acme"}, [2, 4, 6, 8, 10, 12]),
        ({"target": "t9"}, [8]),
        ({"target": "t"}, []),
        ({"action": "tenants.*", "actor": "ak_ops", "text": "T1"}, [9, 10, 11, 12, 13]),
        ({"action": "audit.*"}, [1]),
        ({"action": "tenants"}, []),
        ({"since": datetime(2026, 3, 3, tzinfo=UTC)}, [9, 10, 11, 12, 13]),
        ({"since": datetime(2026, 3, 2, tzinfo=UTC), "until": datetime(2026, 3, 3, tzinfo=UTC)}, [5, 6, 7, 8]),
        ({"outcome": "failed: conflict"}, []),
        ({"request_id": "req_1", "tenant": "bravo"}, [3, 5, 7, 9, 11, 13]),
    ],
)
async def test_lines_are_found_by_what_is_asked(tmp_path: Path, asked: dict[str, Any], found: list[int]) -> None:
    audit = await three_days(tmp_path)
    assert await numbers(audit, **asked) == found
    assert await numbers(audit, order="newest", **asked) == found[::-1]


async def test_text_that_is_written_out_is_found_as_it_was_said(tmp_path: Path) -> None:
    audit = await opened(tmp_path, FakeClock())
    await add(audit, "Zoë\x1b[2J", actor='say "hi"')
    assert await numbers(audit, text="zoë") == [2]
    assert await numbers(audit, target="Zoë\x1b[2J") == [2]
    assert await numbers(audit, actor='say "hi"') == [2]


async def test_a_line_that_is_none_is_passed_over(tmp_path: Path) -> None:
    audit = await opened(tmp_path, FakeClock())
    await add(audit, "a")
    day = next((tmp_path / "audit").glob("*-*.jsonl"))
    day.write_bytes(b"[1]\n{}\n" + day.read_bytes() + b'{"n":"x"}\n\xff\n')
    assert await numbers(audit) == [1, 2]
    assert await numbers(audit, order="newest") == [2, 1]
