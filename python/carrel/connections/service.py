"""Connections: linking an account by a browser, keeping its token good, and taking it away again.

A token is given to rooms that put it into requests outside of every sandbox, and to nobody else. It is on the disk
before it is used, and the one before it stays there until then: whenever the gateway ends, one of the two is left.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import structlog

from carrel.clock import Clock
from carrel.connections.links import Link, Links, Way
from carrel.connections.record import Connection, ConnectionUnusable, needs_relink
from carrel.connections.renewal import Counted, Renewal, end_of
from carrel.connections.shelf import Shelf
from carrel.connections.vendor import Vendor
from carrel.declare.oauth import OAuthProvider
from carrel.declare.outward import permitted_providers
from carrel.declare.problems import nearest
from carrel.errors import CarrelError, Forbidden, InvalidRequest, NotFound, TooLarge, Unavailable
from carrel.events.hub import Hub
from carrel.secrets import Secret
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Snapshot, Tenant
from carrel.wire import oauth

MOST: Final = 200
"""Connections of one tenant."""
_log = structlog.get_logger(__name__)


class Record(Protocol):
    """The audit log."""

    async def record(
        self, *, actor: str, action: str, target: str, request_id: str, outcome: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> None:  # fmt: skip
        """Add one line."""
        ...


@dataclass(frozen=True, slots=True)
class Consent:
    """What a person is asked before a browser is sent to a vendor."""

    link: Link
    provider: OAuthProvider

    @property
    def shown(self) -> str:
        """What people call the vendor."""
        return self.provider.display_name or self.link.provider


class Connections:
    """All tenants'. One instance, made by the composition root."""

    def __init__(
        self, *, shelf: Shelf, vendor: Vendor, directory: Directory, clock: Clock, hub: Hub, audit: Record,
        metrics: Counted, tasks: Tasks, address: str,
    ) -> None:  # fmt: skip
        """``address`` is where the gateway is reached where `public_url` does not say it."""
        self._shelf = shelf
        self._vendor = vendor
        self._directory = directory
        self._clock = clock
        self._hub = hub
        self._audit = audit
        self._metrics = metrics
        self._address = address
        self._links = Links(clock)
        self._renewal = Renewal(
            shelf=shelf, vendor=vendor, clock=clock, metrics=metrics, tasks=tasks, lost=self._lost
        )  # fmt: skip

    # --- linking ---

    async def link(
        self, snapshot: Snapshot, tenant: Tenant, *, provider: str, name: str | None, scopes: Sequence[str] | None,
        by: str,
    ) -> tuple[str, datetime]:  # fmt: skip
        """A link that a person opens once in a browser, and when it is over.

        Raises NotFound, Forbidden, InvalidRequest, RateLimited, TooLarge.
        """
        declared = self._provider(snapshot, tenant, provider)
        wanted = declared.scopes if scopes is None else tuple(dict.fromkeys(scopes))
        for scope in wanted:
            if scope not in (*declared.scopes, *declared.more_scopes):
                choice = (*declared.scopes, *declared.more_scopes)
                close = nearest(scope, choice)
                hint = f"did you mean {close!r}?" if close else f"it offers {', '.join(choice) or 'none'}."
                raise InvalidRequest(f"{provider} does not offer the scope {scope!r} here: {hint}", param="scopes")
        named = name or provider
        held = await asyncio.to_thread(self._shelf.all, tenant)
        if len(held) >= MOST and not any((one.name, one.member) == (named, tenant.own) for one in held):
            raise TooLarge(f"A tenant has {MOST} connections at most: remove one first.")
        text, link = self._links.make(tenant, provider=provider, name=named, scopes=wanted, by=by)
        return f"{self._public(snapshot)}/connect/{provider}?link={text}", link.expires

    def consent(self, provider: str, text: str) -> Consent:
        """What the link ``text`` asks a person; it is not used up by that. Raises NotFound."""
        link = self._links.look(provider, text)
        if link is None:
            raise _no_link()
        snapshot = self._directory.current
        return Consent(link, self._provider(snapshot, self._standing(snapshot, link), provider))

    async def begin(self, provider: str, text: str, *, request_id: str) -> tuple[str, str, str]:
        """Use the link up: where the browser is sent, the state, and what the browser is to hold. Raises NotFound."""
        snapshot = self._directory.current
        consent = self.consent(provider, text)
        callback = f"{self._public(snapshot)}/oauth/callback"
        begun = self._links.begin(provider, text, redirect_uri=callback)
        if begun is None:
            raise _no_link()
        way, state, browser = begun
        await self._note("connections.begin", way.link, request_id, "ok")
        url = oauth.authorization_url(
            consent.provider, redirect_uri=callback, state=state, scopes=way.link.scopes, verifier=way.verifier,
            nonce=way.nonce,
        )  # fmt: skip
        return url, state, browser

    async def finish(self, came: oauth.Returned, browser: str, *, request_id: str) -> Connection:
        """What a browser brought back, turned into a connection.

        Raises NotFound where it is not its own browser, or not the first time; OAuthRefused, OAuthUnclear, and what
        `Vendor` raises.
        """
        way = self._links.end(came.state, browser)
        if way is None:
            raise NotFound(
                "This was begun in another browser, was used already, or took over ten minutes: ask for a new link."
            )
        link = way.link
        try:
            return await self._finished(way, came, request_id)
        except CarrelError as error:
            self._metrics.connection(link.tenant.id, provider=link.provider, outcome=error.code)
            await self._note("connections.linked", link, request_id, f"failed: {error.code}")
            raise

    async def _finished(self, way: Way, came: oauth.Returned, request_id: str) -> Connection:
        link, snapshot = way.link, self._directory.current
        tenant = self._standing(snapshot, link)
        provider = self._provider(snapshot, tenant, link.provider)
        oauth.check_issuer(provider, came.iss)
        if came.error:
            raise oauth.OAuthRefused(came.error, came.description)
        answer = await self._vendor.exchange(
            tenant.id, provider, code=came.code, redirect_uri=way.redirect_uri, verifier=way.verifier
        )
        now = self._clock.now()
        claims: dict[str, object] = {}
        if answer.id_token is not None:
            claims = oauth.id_claims(provider, answer.id_token, nonce=way.nonce, now=now.timestamp())
        elif provider.issuer is not None and came.iss is None:
            raise oauth.OAuthUnclear("The answer names no issuer, and the provider is declared with one.")
        account = oauth.account_in(provider, claims) or await self._vendor.account(
            tenant.id, provider, answer.access_token
        )
        made = Connection(
            name=link.name, provider=link.provider, member=tenant.own, account=account,
            scopes=link.scopes if answer.scopes is None else answer.scopes, linked=now, linked_by=link.by,
            expires=end_of(answer, now), access=answer.access_token, refresh=answer.refresh_token,
        )  # fmt: skip
        async with self._shelf.lock(tenant, made):
            await asyncio.to_thread(self._shelf.put, tenant, made)
        self._metrics.connection(tenant.id, provider=link.provider, outcome="linked")
        await self._note("connections.linked", link, request_id, "ok", account=account)
        self._tell(tenant, made, "linked")
        return made

    # --- looking, and taking away ---

    async def list(self, tenant: Tenant) -> Sequence[Connection]:
        """Those that the tenant, or the member it is used for, has: a member sees their own and the whole tenant's."""
        found = await asyncio.to_thread(self._shelf.all, tenant)
        return [one for one in found if one.member in (None, tenant.own)]

    async def remove(self, snapshot: Snapshot, tenant: Tenant, name: str, *, shared: bool) -> tuple[Connection, bool]:
        """Forget a connection, and revoke it with the vendor where that can be done: whether it was.

        ``shared``: also one of the whole tenant's, where a member has none of that name. Raises NotFound, Forbidden.
        """
        found = await self._found(tenant, name)
        if found is None:
            raise NotFound(f"There is no connection {name[:64]!r}.")
        if found.member is None and tenant.own is not None and not shared:
            raise Forbidden("This connection is the whole tenant's: that takes a token with the scope `admin`.")
        async with self._shelf.lock(tenant, found):
            current = await asyncio.to_thread(self._shelf.get, tenant, found.member, name)
            await asyncio.to_thread(self._shelf.remove, tenant, found.member, name)
        self._renewal.forget(tenant, found)
        revoked = await self._revoked(snapshot, tenant, current or found)
        self._metrics.connection(tenant.id, provider=found.provider, outcome="removed")
        self._tell(tenant, found, "removed")
        return found, revoked

    async def _revoked(self, snapshot: Snapshot, tenant: Tenant, gone: Connection) -> bool:
        provider = snapshot.gateway.oauth_providers.get(gone.provider)
        if provider is None:
            return False
        token, hint = (gone.refresh, "refresh_token") if gone.refresh is not None else (gone.access, "access_token")
        try:
            return await self._vendor.revoke(tenant.id, provider, token, hint=hint)
        except CarrelError as error:
            _log.warning("a token was not revoked", tenant=tenant.id, provider=gone.provider, reason=error.message)
            return False

    # --- using ---

    async def token(self, tenant: Tenant, name: str, *, provider: str) -> Secret:
        """The token of a connection, good for a while yet: a member's own, else the whole tenant's.

        Raises ConnectionUnusable where there is none, or where it has to be linked again; what `Vendor` raises where a
        new one is needed and the vendor does not give it now.
        """
        snapshot = self._directory.current
        declared = self._provider(snapshot, tenant, provider)
        found = await self._found(tenant, name)
        if found is None:
            raise ConnectionUnusable(
                f"There is no connection {name!r} with {provider}: somebody has to link it (`connections.link`)."
            )
        if found.provider != provider:
            raise ConnectionUnusable(f"The connection {name!r} is with {found.provider}, and not with {provider}.")
        if found.state == "needs_relink":
            raise needs_relink(found)
        now = self._clock.now()
        if found.is_due(now, declared.refresh_before_seconds) and (found.refresh is not None or found.is_over(now)):
            found = await self._renewal.renewed(tenant, declared, found)
        return Secret(found.access)

    async def _lost(self, tenant: Tenant, lost: Connection) -> None:
        """Say that a connection is good no more."""
        await self._audit.record(
            actor="carrel", action="connections.needs_relink", target=lost.name, tenant=tenant.id, request_id="-",
            outcome="ok", after={"provider": lost.provider, "member": lost.member, "reason": lost.reason},
        )  # fmt: skip
        self._tell(tenant, lost, "needs_relink")

    # --- what all of it rests on ---

    def _provider(self, snapshot: Snapshot, tenant: Tenant, name: str) -> OAuthProvider:
        """The provider of that name, where the tenant may connect with it; raises NotFound, the same for both."""
        permitted = permitted_providers(snapshot.gateway, snapshot.allowlists, tenant.config)
        if name not in permitted:
            close = nearest(name, permitted)
            hint = f"did you mean {close}?" if close else f"there is {', '.join(permitted) or 'none'}."
            raise NotFound(f"There is no provider {name[:64]!r} that this tenant may connect with: {hint}")
        return snapshot.gateway.oauth_providers[name]

    def _standing(self, snapshot: Snapshot, link: Link) -> Tenant:
        """The tenant of a link as it is now; raises NotFound where nothing may be done for it any more."""
        now = snapshot.tenants.get(link.tenant.id)
        # One that was removed and declared anew has another root: it is another tenant.
        if now is None or now.root is not link.tenant.root or not now.ready or now.removed:
            raise _no_link()
        if now.suspended:
            raise Unavailable("Nothing is linked for a tenant that is suspended.")
        if not now.has_member(link.tenant.member):
            raise _no_link()
        return now.as_member(link.tenant.member)

    async def _found(self, tenant: Tenant, name: str) -> Connection | None:
        for member in dict.fromkeys((tenant.own, None)):
            found = await asyncio.to_thread(self._shelf.get, tenant, member, name)
            if found is not None:
                return found
        return None

    def _public(self, snapshot: Snapshot) -> str:
        return snapshot.gateway.public_url or self._address

    def _tell(self, tenant: Tenant, one: Connection, what: str) -> None:
        about = {"name": one.name, "provider": one.provider, "account": one.account, "what": what, "reason": one.reason}
        told = {key: value for key, value in about.items() if value is not None}
        self._hub.publish(tenant, "connections.changed", told, own=one.member)

    async def _note(
        self, action: str, link: Link, request_id: str, outcome: str, *, account: str | None = None
    ) -> None:
        about = {"provider": link.provider, "scopes": " ".join(link.scopes), "member": link.tenant.own}
        after = {key: value for key, value in {**about, "account": account}.items() if value}
        await self._audit.record(
            actor=f"link:{link.by}", action=action, target=link.name, tenant=link.tenant.id, request_id=request_id,
            outcome=outcome, after=after,
        )  # fmt: skip


def _no_link() -> NotFound:
    return NotFound("This link was used already, is older than ten minutes, or was never one: ask for a new one.")
