"""The control plane of the bill."""

from typing import Any

import aiohttp
import pytest

from tests.fakes.edge import ADMIN_KEY, Edge, bearer, token_of


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


@pytest.mark.parametrize("by", ["agent", "session", "member", "key"])
async def test_a_report_by_something_more_is_the_operators(edge: Edge, client: aiohttp.ClientSession, by: str) -> None:
    status, report = await got(edge, client, f"/v1/tenants/acme/usage?by={by}")
    assert (status, report["rows"][0]["key"]) == (200, f"a-{by}")
    assert (await got(edge, client, f"/v1/tenants/acme/usage?by={by}", token_of("acme")))[0] == 403
