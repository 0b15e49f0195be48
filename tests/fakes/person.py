"""A person with a browser: keeps cookies for each site, follows nothing by itself, and says what it was shown."""

import html
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp

from carrel.declare.oauth import OAuthProvider
from tests.fakes.edge import Edge, bearer, token_of
from tests.fakes.oauth_vendor import OAuthVendor, declared


@dataclass
class Shown:
    """A page."""

    status: int
    headers: dict[str, str]
    text: str
    set_cookies: list[str] = field(default_factory=list)

    @property
    def link(self) -> str:
        """Where the page's one link leads, or where it redirects to."""
        found = re.search(r'<a[^>]* href="([^"]*)"', self.text)
        return self.headers.get("Location") or (html.unescape(found[1]) if found is not None else "")


class Person:
    """One browser."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self._client = client
        self.cookies: dict[str, dict[str, str]] = {}

    async def go(self, url: str, **headers: str) -> Shown:
        """What is at ``url``."""
        held = self.cookies.setdefault(urlsplit(url).netloc, {})
        sent = {**headers, **({"Cookie": "; ".join(f"{n}={v}" for n, v in held.items())} if held else {})}
        async with self._client.get(url, headers=sent, allow_redirects=False) as reply:
            given = reply.headers.getall("Set-Cookie", [])
            for line in given:
                name, _, value = line.partition(";")[0].partition("=")
                value = value.strip('"')
                held.pop(name, None)
                if value and "Max-Age=0" not in line:
                    held[name] = value
            return Shown(reply.status, dict(reply.headers), await reply.text(), given)

    async def through(self, url: str) -> Shown:
        """A link, its page, the vendor's, and back: the last page."""
        asked = await self.go(url)
        sent = await self.go(urljoin(url, asked.link))
        page = await self.go(sent.link)
        back = await self.go(urljoin(sent.link, page.link))
        return await self.go(back.link)


def declare_vendor(edge: Edge, vendor: OAuthVendor, **more: Any) -> None:
    """Let tenants of ``edge`` connect with ``vendor``."""
    provider = OAuthProvider.model_validate_json(json.dumps(declared(vendor.url, **more)))
    current = edge.directory.current
    update = {"oauth_providers": {"vendor": provider}, "public_url": edge.url}
    edge.directory.publish(replace(current, gateway=current.gateway.model_copy(update=update)))


async def call(edge: Edge, method: str, params: dict[str, Any] | None = None, tenant: str = "acme") -> Any:
    """A JSON-RPC call of a tenant's: its result, or the error's object."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"{edge.url}/rpc", json=body, headers=bearer(token_of(tenant))) as reply,
    ):
        told = await reply.json()
        return told.get("result", told.get("error"))
