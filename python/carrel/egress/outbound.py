"""HTTP that the gateway itself speaks for a tenant, to vendors and servers that are declared: through the same guard.

A name is resolved once and only an address that was judged is dialled; no redirect is followed; no cookie is kept; TLS
is verified by the same roots as for sandboxes.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

import aiohttp
from yarl import URL

from carrel.declare.hosts import canonical
from carrel.egress.door import unreachable
from carrel.egress.resolve import Dialler
from carrel.errors import InvalidRequest
from carrel.ids import TenantId
from carrel.policy.egress.addresses import Network

CONNECT_SECONDS: Final = 15.0


class Clients(Protocol):
    """Where clients come from; `egress.service.Egress` is one."""

    dialler: Dialler

    def client(
        self, tenant_id: TenantId, permitted: tuple[Network, ...]
    ) -> AbstractAsyncContextManager[aiohttp.ClientSession]: ...
    def tls(self) -> ssl.SSLContext: ...


class Outbound:
    """Speaks HTTP for tenants; no two of them share a connection."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    @asynccontextmanager
    async def request(
        self, tenant: TenantId, method: str, url: str, *, headers: Mapping[str, str], data: bytes | None = None,
        permitted: tuple[Network, ...] = (), stall_seconds: float,
    ) -> AsyncIterator[aiohttp.ClientResponse]:  # fmt: skip
        """The answer as it begins. ``permitted`` are private networks that the host may be in.

        Raises AddressRefused, Unreachable, and TimeoutError where nothing comes for ``stall_seconds``; what breaks off
        inside of the block is aiohttp's ClientError.
        """
        target = URL(url)
        host = canonical(target.host or "")
        if target.scheme not in ("http", "https"):
            raise InvalidRequest("Only http and https are spoken.")
        if host.address is not None:
            # An address is dialled without asking a resolver: it is judged here.
            await self._clients.dialler.vetted(host, permitted=permitted)
        async with self._clients.client(tenant, permitted) as client:
            try:
                answer = await client.request(
                    method, target, headers=headers, data=data, allow_redirects=False,
                    ssl=self._clients.tls() if target.scheme == "https" else True,
                    skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=stall_seconds),
                )  # fmt: skip
            except TimeoutError:
                raise
            except (aiohttp.ClientError, OSError) as error:
                raise unreachable(error) from error
            try:
                yield answer
            finally:
                # What was read to its end goes back to the pool; anything else is closed.
                answer.close() if not answer.content.at_eof() else answer.release()
