"""Links that a person opens once, and the ways to a vendor and back that they begin. All in memory, by digest.

Whoever reads the gateway's memory dump finds no link in it that could be used, and after a restart a person asks for
another.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from carrel.clock import Clock
from carrel.errors import RateLimited
from carrel.tenancy.handle import Tenant

LINK_SECONDS: Final = 600.0
MOST_LINKS: Final = 32
"""Of one tenant at a time."""
_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Link:
    """What was asked for: one connection of ``tenant``'s (with its member in the handle) with a provider."""

    tenant: Tenant
    provider: str
    name: str
    scopes: tuple[str, ...]
    by: str
    expires: datetime


@dataclass(frozen=True, slots=True)
class Way:
    """A browser on its way to the vendor and back. ``browser`` is the digest of what only that browser has."""

    link: Link
    browser: str
    verifier: str
    nonce: str
    redirect_uri: str
    expires: datetime


class Links:
    """All of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._links: dict[str, Link] = {}
        self._ways: dict[str, Way] = {}

    def make(
        self, tenant: Tenant, *, provider: str, name: str, scopes: tuple[str, ...], by: str
    ) -> tuple[str, Link]:  # fmt: skip
        """A new link: its text, which is told once, and what is kept. Raises RateLimited."""
        self._forget_old()
        if sum(one.tenant.id == tenant.id for one in self._links.values()) >= MOST_LINKS:
            raise RateLimited(
                f"{MOST_LINKS} links of this tenant wait to be opened; each is over after ten minutes.",
                retry_after=LINK_SECONDS / 10,
            )
        text = secrets.token_urlsafe(_BYTES)
        link = Link(tenant, provider, name, scopes, by, self._clock.now() + timedelta(seconds=LINK_SECONDS))
        self._links[digest(text)] = link
        return text, link

    def look(self, provider: str, text: str) -> Link | None:
        """The link ``text`` to that provider, as long as nobody has used it; None where there is none."""
        self._forget_old()
        link = self._links.get(digest(text))
        return link if link is not None and link.provider == provider else None

    def begin(self, provider: str, text: str, *, redirect_uri: str) -> tuple[Way, str, str] | None:
        """Use the link up: the way, its state, and what the browser gets; None where there is no such link."""
        link = self.look(provider, text)
        if link is None:
            return None
        del self._links[digest(text)]
        state, browser = secrets.token_urlsafe(_BYTES), secrets.token_urlsafe(_BYTES)
        way = Way(
            link, digest(browser), secrets.token_urlsafe(48), secrets.token_urlsafe(_BYTES), redirect_uri,
            self._clock.now() + timedelta(seconds=LINK_SECONDS),
        )  # fmt: skip
        self._ways[digest(state)] = way
        return way, state, browser

    def end(self, state: str, browser: str) -> Way | None:
        """Use the way up whose ``state`` came back in its own ``browser``.

        In another one it is not: who has read a state elsewhere can neither go on with it nor take it away.
        """
        self._forget_old()
        way = self._ways.get(digest(state))
        if not hmac.compare_digest(digest(browser), way.browser if way is not None else "0" * 64) or way is None:
            return None
        del self._ways[digest(state)]
        return way

    def _forget_old(self) -> None:
        now = self._clock.now()
        for digests in [key for key, one in self._links.items() if one.expires <= now]:
            del self._links[digests]
        for digests in [key for key, one in self._ways.items() if one.expires <= now]:
            del self._ways[digests]


def digest(text: str) -> str:
    """What is kept of a text that is a secret."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
