"""The pages of the control plane's lists."""

import aiohttp
import pytest

from tests.fakes.edge import ADMIN_KEY, Edge, bearer


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit=%D9%A1", "cursor=%00"])
async def test_what_is_no_page_is_refused(edge: Edge, client: aiohttp.ClientSession, query: str) -> None:
    async with client.get(f"{edge.url}/v1/quota-requests?{query}", headers=bearer(ADMIN_KEY)) as reply:
        assert reply.status == 400
