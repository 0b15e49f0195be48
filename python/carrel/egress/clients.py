"""HTTP clients, one for each tenant and the private networks it may go into: no two share a connection.

Their connections stay open for a while for what comes next. So many clients are kept, and the longest unused go.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from carrel.egress.door import Pinned
from carrel.egress.resolve import Dialler
from carrel.ids import TenantId
from carrel.policy.egress.addresses import Network

CLIENTS: Final = 128
"""How many are kept beside those in use, each with the connections that it had no longer than `KEEP_SECONDS` ago."""
KEEP_SECONDS: Final = 30.0


class _Lent:
    """A client, and how many use it now."""

    __slots__ = ("session", "users")

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.users = 0


class Clients:
    """Those of all tenants."""

    def __init__(self, dialler: Dialler, *, most: int = CLIENTS) -> None:
        self._dialler = dialler
        self._most = most
        self._clients: OrderedDict[tuple[TenantId, tuple[Network, ...]], _Lent] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clients)

    @asynccontextmanager
    async def client(
        self, tenant_id: TenantId, permitted: tuple[Network, ...]
    ) -> AsyncIterator[aiohttp.ClientSession]:  # fmt: skip
        """One for requests of a tenant's that go into ``permitted`` networks too; it stays open until this is left."""
        key = (tenant_id, permitted)
        one = self._clients.get(key)
        if one is None:
            one = self._clients[key] = _Lent(self._made(permitted))
        self._clients.move_to_end(key)
        one.users += 1
        try:
            yield one.session
        finally:
            one.users -= 1
            await self._make_room()

    async def close(self) -> None:
        """Close them all."""
        while self._clients:
            await _closed(self._clients.popitem()[1])

    async def _make_room(self) -> None:
        unused = [key for key, one in self._clients.items() if not one.users] if len(self._clients) > self._most else []
        for one in [self._clients.pop(key) for key in unused[: len(self._clients) - self._most]]:
            await _closed(one)

    def _made(self, permitted: tuple[Network, ...]) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=Pinned(self._dialler, permitted), use_dns_cache=False, limit=128, limit_per_host=32,
            keepalive_timeout=KEEP_SECONDS,
        )  # fmt: skip
        return aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False,
            max_line_size=64 << 10, max_field_size=64 << 10,
        )  # fmt: skip


async def _closed(one: _Lent) -> None:
    # Nothing is under way on its connections: none is waited for to say goodbye.
    if one.session.connector is not None:
        await one.session.connector.close(abort_ssl=True)
    await one.session.close()
