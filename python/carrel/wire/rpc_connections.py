"""The models of `connections.*`; see `wire.rpc`."""

from typing import Annotated, Literal

from pydantic import Field

from carrel.wire.rpc import Page, Params, Result

ConnectionName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
ProviderName = Annotated[str, Field(min_length=1, max_length=64)]
ScopeText = Annotated[str, Field(min_length=1, max_length=256)]


class ConnectionsListParams(Page):
    """Parameters of `connections.list`."""


class ConnectionLinkParams(Params):
    """Parameters of `connections.link`."""

    provider: ProviderName = Field(description="A provider, as `connections.list` names those that there are.")
    name: ConnectionName | None = Field(
        None, description="What the connection is called. Default: as its provider. One that is there is replaced."
    )
    scopes: Annotated[tuple[ScopeText, ...], Field(max_length=100, strict=False)] | None = Field(
        None, description="What it may, of what the provider offers. Default: as the operator declared."
    )


class ConnectionParams(Params):
    """A connection by its name."""

    name: ConnectionName


class ConnectionView(Result):
    """An account that somebody has connected. Its token is never told.

    ``member`` is whose it is, left out where it is the whole tenant's. ``expires_at`` is when the present token ends:
    it is renewed before, where ``renews``.
    """

    name: str
    provider: str
    account: str | None = None
    scopes: tuple[str, ...] = ()
    state: Literal["ok", "needs_relink"]
    reason: str | None = None
    member: str | None = None
    renews: bool
    linked_at: int
    expires_at: int | None = None


class ConnectionProvider(Result):
    """A service that the tenant may connect with."""

    name: str
    display_name: str
    scopes: tuple[str, ...] = ()
    more_scopes: tuple[str, ...] = ()


class ConnectionList(Result):
    """Connections by name, and what more could be connected."""

    connections: tuple[ConnectionView, ...]
    providers: tuple[ConnectionProvider, ...] = ()
    next: str | None = None


class ConnectionLink(Result):
    """What a person opens in a browser, once."""

    url: str
    expires_at_ms: int


class ConnectionRemoved(Result):
    """The connection that is gone. ``revoked``: the vendor has taken its token back, too."""

    ok: bool
    name: str
    revoked: bool
