"""What is asked of a vendor: tokens, new ones, their revocation, and whose account it is.

Each request goes through the guard of everything that leaves the machine, follows no redirect, and has a deadline. What
a vendor answers is bounded, and nothing of it is believed but what `wire.oauth` takes out of it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from ipaddress import ip_network
from typing import Any, Final, Protocol

import aiohttp

from carrel.declare.oauth import OAuthProvider
from carrel.errors import CarrelError, UpstreamError, UpstreamTimeout
from carrel.ids import TenantId
from carrel.policy.egress.addresses import Network
from carrel.secrets import Secret
from carrel.wire import oauth

MOST_ANSWER: Final = 256 << 10
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "carrel"}


class Outside(Protocol):
    """HTTP on the gateway's own behalf, for one tenant, through the guard."""

    def request(
        self, tenant: TenantId, method: str, url: str, *, headers: Mapping[str, str], data: bytes | None = None,
        permitted: tuple[Network, ...] = (), stall_seconds: float,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:  # fmt: skip
        """The answer as it begins; raises AddressRefused, Unreachable, UpstreamError, UpstreamTimeout."""
        ...


ClientSecret = Callable[[str], Awaitable[Secret]]
"""A secret of the operator's by its name; raises SecretMissing."""


class Vendor:
    """Talks to vendors."""

    def __init__(self, *, outside: Outside, secret: ClientSecret) -> None:
        self._outside = outside
        self._secret = secret

    async def exchange(
        self, tenant: TenantId, provider: OAuthProvider, *, code: str, redirect_uri: str, verifier: str
    ) -> oauth.TokenAnswer:
        """Tokens for a code; raises OAuthRefused, OAuthUnclear, UpstreamError and what `Outside` does."""
        fields = oauth.code_fields(provider, code=code, redirect_uri=redirect_uri, verifier=verifier)
        return oauth.token_answer(*await self._post(tenant, provider, provider.token_url, fields))

    async def refresh(self, tenant: TenantId, provider: OAuthProvider, refresh_token: str) -> oauth.TokenAnswer:
        """A new token, and perhaps a new one to get the next with; raises as `exchange`."""
        fields = oauth.refresh_fields(provider, refresh_token)
        return oauth.token_answer(*await self._post(tenant, provider, provider.token_url, fields))

    async def revoke(self, tenant: TenantId, provider: OAuthProvider, token: str, *, hint: str) -> bool:
        """Revoke a token; False where the vendor has no place for that. Raises as `exchange`."""
        if provider.revoke_url is None:
            return False
        fields = oauth.revoke_fields(token, hint=hint)
        status, kind, body = await self._post(tenant, provider, provider.revoke_url, fields)
        if status not in (200, 204):
            oauth.token_answer(status, kind, body)
        return True

    async def account(self, tenant: TenantId, provider: OAuthProvider, token: str) -> str | None:
        """Whose account a new token is of, None where that is not to be found out."""
        if provider.account_url is None:
            return None
        headers = {**_HEADERS, "Authorization": f"Bearer {token}"}
        try:
            status, _, body = await self._ask(tenant, provider, "GET", provider.account_url, headers=headers)
            document: Any = json.loads(body) if status == 200 else None
        except (CarrelError, ValueError, RecursionError):
            return None
        return oauth.account_in(provider, document) if isinstance(document, dict) else None

    async def _post(
        self, tenant: TenantId, provider: OAuthProvider, url: str, fields: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        named = provider.client_secret
        secret = (await self._secret(named.secret)).reveal() if named is not None else None
        headers, body = oauth.authenticated(provider, secret, fields)
        headers |= {**_HEADERS, "Content-Type": "application/x-www-form-urlencoded"}
        found = await self._ask(tenant, provider, "POST", url, headers=headers, data=oauth.form(body))
        if found[0] >= 500 or found[0] == 429:
            raise UpstreamError(f"The vendor answered {found[0]}.", status=found[0], retryable=True)
        return found

    async def _ask(
        self, tenant: TenantId, provider: OAuthProvider, method: str, url: str, *, headers: Mapping[str, str],
        data: bytes | None = None,
    ) -> tuple[int, str, bytes]:  # fmt: skip
        permitted = tuple(ip_network(text) for text in provider.addresses)
        seconds = provider.timeout_seconds
        try:
            async with (
                asyncio.timeout(seconds),
                self._outside.request(
                    tenant, method, url, headers=headers, data=data, permitted=permitted, stall_seconds=seconds
                ) as answer,
            ):
                body = b""
                async for piece in answer.content.iter_any():
                    body += piece
                    if len(body) > MOST_ANSWER:
                        raise oauth.OAuthUnclear(f"The vendor's answer is over {MOST_ANSWER} bytes.")
                return answer.status, answer.headers.get("Content-Type", ""), body
        except TimeoutError:
            raise UpstreamTimeout(f"The vendor did not answer within {seconds:g} s.", retryable=True) from None
        except aiohttp.ClientError as error:
            raise UpstreamError("The vendor's answer broke off.", retryable=True) from error
