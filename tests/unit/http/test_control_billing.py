"""The control plane of the bill."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import pytest

from carrel.ids import TenantId
from carrel.metering.recount import Counting
from carrel.metering.report import ReportRow
from carrel.policy.periods import parse_period
from tests.fakes.edge import ADMIN_KEY, Edge, bearer, token_of

NOW: Final = datetime(2026, 3, 1, tzinfo=UTC)


async def got(edge: Edge, client: aiohttp.ClientSession, path: str, key: str = ADMIN_KEY) -> tuple[int, Any]:
    async with client.get(edge.url + path, headers=bearer(key)) as reply:
        return reply.status, await reply.json(content_type=None)


async def test_an_invoice_is_the_operators(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, made = await got(edge, client, "/v1/tenants/acme/invoice?period=2026-03-01..2026-03-31")
    assert (status, made["total_usd"], made["first"]) == (200, "0.000025", "2026-03-01")
    [line] = made["lines"]
    assert (line["model"], line["calls"], line["plan"], line["byo"]) == ("demo", 2, "pro", False)
    assert [(part["tokens"], part["factor"], part["amount_usd"]) for part in line["parts"]] == [
        (10, "1.25", "0.0000125"), (5, "1.25", "0.0000125")
    ]  # fmt: skip
    assert (await got(edge, client, "/v1/tenants/acme/invoice?period=x"))[0] == 400
    assert (await got(edge, client, "/v1/tenants/nobody/invoice"))[0] == 404
    assert (await got(edge, client, "/v1/tenants/acme/invoice", token_of("acme")))[0] == 403


async def test_a_recount_names_what_is_wrong(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, found = await got(edge, client, "/v1/tenants/acme/usage/recount")
    assert (status, found["calls"], found["wrong"]) == (200, 7, [{"date": "2026-03-01", "model": "demo"}])


async def test_how_far_a_recount_is_is_told(edge: Edge, client: aiohttp.ClientSession) -> None:
    path = "/v1/tenants/acme/usage/recount/running"
    assert (await got(edge, client, path))[1]["running"] is False
    edge.meter.counted = Counting(now=lambda: 0.0)
    assert (await got(edge, client, path))[1] == {"running": True, "done": 0, "total": 0, "eta_seconds": None}
    now = [0.0]
    edge.meter.counted = Counting(done=5, total=20, now=lambda: now[0])
    now[0] = 10.0
    assert (await got(edge, client, path))[1] == {"running": True, "done": 5, "total": 20, "eta_seconds": 30.0}
    assert (await got(edge, client, path, token_of("acme")))[0] == 403


@pytest.mark.parametrize("by", ["agent", "session", "member", "key"])
async def test_a_report_by_something_more_is_the_operators(edge: Edge, client: aiohttp.ClientSession, by: str) -> None:
    status, report = await got(edge, client, f"/v1/tenants/acme/usage?by={by}")
    assert (status, report["rows"][0]["key"]) == (200, f"a-{by}")
    assert (await got(edge, client, f"/v1/tenants/acme/usage?by={by}", token_of("acme")))[0] == 403


async def test_a_long_report_may_come_in_pages_whose_total_is_of_all(
    edge: Edge, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = await edge.meter.report(edge.directory.current.tenants[TenantId("acme")], parse_period("today", NOW))

    async def report(*_: object, **__: object) -> list[ReportRow]:
        return [replace(row, model=model) for model in ("c", "a", "b")]

    monkeypatch.setattr(edge.meter, "report", report)
    path = "/v1/tenants/acme/usage?period=today"
    assert len((await got(edge, client, path))[1]["rows"]) == 3
    _, first = await got(edge, client, f"{path}&limit=2")
    _, second = await got(edge, client, f"{path}&limit=2&cursor={first['next']}")
    assert [one["model"] for one in (*first["rows"], *second["rows"])] == ["a", "b", "c"]
    assert (first["total_cost_usd"], second["total_cost_usd"], second["next"]) == ("0.000369", "0.000369", None)
    assert (await got(edge, client, f"{path}&limit=0"))[0] == 400
