"""Where a tenant's calls of a provider go, and with which key: looked up once and kept while it holds."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from carrel.clock import Clock
from carrel.declare.gateway import ProviderConfig
from carrel.errors import InvalidRequest, NotFound, UpstreamError
from carrel.providers.connections import shared_tls
from carrel.relay.dialects.protocol import CallFields
from carrel.relay.pool import Origin, Pool
from carrel.secrets import Secret, SecretMissing, SecretStore
from carrel.tenancy.handle import Snapshot, Tenant

DEFAULT_BASE_URL: Final[Mapping[str, str]] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
}
_ENDPOINTS: Final[Mapping[str, str]] = {
    "openai": "it is served at POST /v1/chat/completions and POST /v1/responses",
    "anthropic": "it is served at POST /v1/messages",
    "demo": "it is served at POST /v1/chat/completions",
}
KEY_SECONDS: Final = 5.0
"""How long a key is used before its file is looked at again."""
MAX_TARGETS: Final = 4096


@dataclass(slots=True)
class Target:
    """One provider as one key's owner calls it. ``head`` ends where the body's length belongs."""

    name: str
    config: ProviderConfig
    pool: Pool
    head: bytes
    secret: str
    byo: bool
    expires: float
    named: str | None = None
    """The name of the tenant's own key, None for the operator's."""
    takes_stream_options: bool = True


class Targets:
    """All that are in use."""

    def __init__(
        self,
        *,
        secrets: SecretStore,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
        own: Callable[[Tenant, str], Secret] | None = None,
    ) -> None:
        self._secrets = secrets
        self._own = own
        self._clock = clock
        self._tls = tls
        self._targets: dict[tuple[str, str, str], Target] = {}
        self._pools: dict[tuple[str, str, int, bool], Pool] = {}

    def known(self, snapshot: Snapshot, tenant: Tenant, provider: str, fields: CallFields) -> Target | None:
        """The target where it needs no look-up."""
        own = tenant.config.providers.get(provider)
        target = self._targets.get((tenant.id if own is not None else "", provider, fields.path))
        if target is None or target.expires <= self._clock.monotonic():
            return None
        if own is not None and own.api_key.secret != target.named:
            return None
        return target if target.config is snapshot.gateway.providers.get(provider) else None

    async def get(self, snapshot: Snapshot, tenant: Tenant, provider: str, fields: CallFields) -> Target:
        """The target; raises NotFound, InvalidRequest for a provider of another dialect, UpstreamError with no key."""
        config = snapshot.gateway.providers.get(provider)
        if config is None:
            raise NotFound(f"No provider is called {provider!r}.")
        if config.kind != fields.kind:
            raise InvalidRequest(
                f"Model {fields.model!r} speaks another dialect than this endpoint's: {_ENDPOINTS[config.kind]}.",
                param="model", details={"reason": "other_dialect"},
            )  # fmt: skip
        own = tenant.config.providers.get(provider)
        reference = own.api_key if own is not None else config.api_key
        secret = ""
        if reference is not None:
            try:
                if own is not None and self._own is not None:
                    secret = (await asyncio.to_thread(self._own, tenant, reference.secret)).reveal()
                else:
                    secret = (await asyncio.to_thread(self._secrets.get, reference.secret)).reveal()
            except SecretMissing as error:
                raise UpstreamError(
                    f"Provider {provider!r} cannot be used: {error.message}", details={"reason": "no_key"}
                ) from None
        if not (secret.isascii() and (secret.isprintable() or not secret)):
            raise UpstreamError(
                f"Provider {provider!r} cannot be used: its key is not plain text.", details={"reason": "no_key"}
            )
        key = (tenant.id if own is not None else "", provider, fields.path)
        before = self._targets.get(key)
        target = await self._make(provider, config, secret, fields, byo=own is not None)
        target.named = own.api_key.secret if own is not None else None
        if before is not None and before.config is config:
            target.takes_stream_options = before.takes_stream_options
        if len(self._targets) >= MAX_TARGETS:
            self._targets.pop(next(iter(self._targets)))
        self._targets[key] = target
        return target

    def close(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        self._targets.clear()

    async def _make(
        self, provider: str, config: ProviderConfig, secret: str, fields: CallFields, *, byo: bool
    ) -> Target:
        url = urlsplit(config.base_url or DEFAULT_BASE_URL[config.kind])
        secure = url.scheme == "https"
        try:
            host = (url.hostname or "").encode("idna").decode("ascii") if not (url.hostname or "").isascii() else ""
            host = host or url.hostname or ""
            port = url.port or (443 if secure else 80)
        except ValueError:
            raise UpstreamError(f"Provider {provider!r} cannot be used: its base_url is malformed.") from None
        path = f"{url.path.rstrip('/')}{fields.path}" + (f"?{url.query}" if url.query else "")
        head = [
            f"POST {path} HTTP/1.1",
            f"Host: {url.netloc.rpartition('@')[2]}",
            "Content-Type: application/json",
            "Accept: application/json, text/event-stream",
            "Accept-Encoding: identity",
            "User-Agent: carrel",
            *(_credentials(config, secret) if secret else []),
            "Content-Length: ",
        ]
        text = "\r\n".join(head)
        if not text.isascii() or any(c in path for c in " \r\n"):
            raise UpstreamError(f"Provider {provider!r} cannot be used: its base_url is malformed.")
        return Target(
            provider, config, await self._pool(provider, config, host, port, secure=secure), text.encode(), secret,
            byo, self._clock.monotonic() + KEY_SECONDS,
        )  # fmt: skip

    async def _pool(self, provider: str, config: ProviderConfig, host: str, port: int, *, secure: bool) -> Pool:
        key = (provider, host, port, secure)
        if key not in self._pools:
            tls = (self._tls or await asyncio.to_thread(shared_tls)) if secure else None
            self._pools.setdefault(key, Pool(Origin(provider, host, port, tls), limit=config.max_connections))
        pool = self._pools[key]
        pool.limit = config.max_connections
        return pool


def _credentials(config: ProviderConfig, secret: str) -> list[str]:
    """The header lines with the key. Servers that took Anthropic's dialect over look for it in either place."""
    bearer = f"Authorization: Bearer {secret}"
    if config.kind != "anthropic":
        return [bearer]
    return [f"x-api-key: {secret}", *([bearer] if config.base_url else [])]
