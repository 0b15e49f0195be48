"""Calls to a running edge."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.edge import Edge, bearer, running_edge, token_of

Rpc = Callable[..., Awaitable[Any]]


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path) as running:
        yield running


@pytest.fixture
async def rpc(edge: Edge) -> AsyncIterator[Rpc]:
    """Call a method as a tenant, ``acme`` by default; gives the result or the error."""
    async with aiohttp.ClientSession() as session:

        async def call(method: str, params: Any = None, *, tenant: str = "acme") -> Any:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
            async with session.post(edge.url + "/rpc", json=body, headers=bearer(token_of(tenant))) as reply:
                answer = await reply.json()
            return answer.get("result", answer.get("error"))

        yield call


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session
