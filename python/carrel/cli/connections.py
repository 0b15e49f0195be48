"""`carrel connections`: accounts that a tenant's people have connected. No token is ever shown."""

from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import understand
from carrel.cli.failures import DONE
from carrel.cli.options import HERE, Target
from carrel.cli.packages import TenantOption
from carrel.cli.rpc import called
from carrel.wire import rpc_connections as wire


def list_(*, tenant: TenantOption, target: Target = HERE) -> int:
    """List the accounts that a tenant has connected, and how each stands."""
    document = called(target, tenant, "connections.list", {"limit": 1000})
    if target.json:
        screen.show_json(document)
        return DONE
    told = understand(wire.ConnectionList, document)
    if not told.connections:
        names = ", ".join(one.name for one in told.providers)
        more = f"It may connect with {names}." if names else "No OAuth provider is declared that it may connect with."
        screen.note(f"{tenant} has connected nothing. {more}")
        return DONE
    rows = [
        (one.name, one.provider, one.account, one.state, " ".join(one.scopes), _ends(one), one.reason)
        for one in told.connections
    ]
    screen.table(("CONNECTION", "PROVIDER", "ACCOUNT", "STATE", "SCOPES", "TOKEN ENDS", "REASON"), rows)
    return DONE


def link(
    provider: Annotated[str, Parameter(name="PROVIDER", help="Of `oauth_providers`, of those the tenant may use.")],
    /,
    *,
    tenant: TenantOption,
    name: Annotated[str | None, Parameter(help="What the connection is called; as its provider without it.")] = None,
    scopes: Annotated[
        list[str] | None,
        Parameter(name="--scope", negative=(), help="A scope to ask for, said once for each; else as declared."),
    ] = None,
    target: Target = HERE,
) -> int:
    """Make a link that somebody opens in a browser, once and within ten minutes, to connect an account."""
    params: dict[str, object] = {"provider": provider}
    if name is not None:
        params["name"] = name
    if scopes:
        params["scopes"] = scopes
    document = called(target, tenant, "connections.link", params)
    if target.json:
        screen.show_json(document)
        return DONE
    made = understand(wire.ConnectionLink, document)
    screen.say(made.url)
    screen.note(f"Open it in a browser, once, before {_moment(made.expires_at_ms)}.")
    return DONE


def remove(
    name: Annotated[str, Parameter(name="CONNECTION", help="Its name, as `carrel connections list` shows it.")],
    /,
    *,
    tenant: TenantOption,
    target: Target = HERE,
) -> int:
    """Forget a connection, and revoke its token with the vendor where that can be done."""
    document = called(target, tenant, "connections.remove", {"name": name})
    if target.json:
        screen.show_json(document)
        return DONE
    gone = understand(wire.ConnectionRemoved, document)
    told = "the vendor has taken its token back" if gone.revoked else "the vendor was not told: revoke it there"
    screen.say(f"{name} is gone; {told}.")
    return DONE


def _ends(one: wire.ConnectionView) -> str | None:
    if one.expires_at is None:
        return None
    return _moment(one.expires_at) + (", renewed before" if one.renews else "")


def _moment(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="seconds")
