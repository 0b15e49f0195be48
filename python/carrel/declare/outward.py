"""What must agree between OAuth providers, MCP servers, and the lists and tenants that name them."""

from collections.abc import Iterable, Iterator
from typing import Final

from carrel.declare.allowlists import Allowlists
from carrel.declare.directory import ALLOWLISTS, GATEWAY, PLANS
from carrel.declare.egress import covers
from carrel.declare.gateway import Gateway
from carrel.declare.mcp import McpServer
from carrel.declare.oauth import place_of
from carrel.declare.plans import Plans
from carrel.declare.problems import Finding, Path, nearest, shown
from carrel.declare.tenant import Tenant

EVERY: Final = "*"


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether one of ``patterns`` is ``name``, or a prefix of it that ends in `*`."""
    return any(name.startswith(p[:-1]) if p.endswith(EVERY) else name == p for p in patterns)


def permitted_providers(gateway: Gateway, allowlists: Allowlists, config: Tenant) -> tuple[str, ...]:
    """The OAuth providers that a tenant may connect with: of the declared ones, those that both lists permit."""
    own = config.oauth_providers
    return tuple(
        name
        for name in gateway.oauth_providers
        if matches(allowlists.oauth_providers, name) and (own is None or matches(own, name))
    )


def pattern_findings(gateway: Gateway, allowlists: Allowlists, plans: Plans) -> Iterator[tuple[str, Finding]]:
    """A warning for each pattern of OAuth providers that is none's, as (file, finding)."""
    lists: list[tuple[str, Path, tuple[str, ...]]] = [
        (ALLOWLISTS, ("oauth_providers",), allowlists.oauth_providers),
        (GATEWAY, ("defaults", "oauth_providers"), gateway.defaults.oauth_providers or ()),
    ]
    lists += [(PLANS, ("plans", n, "oauth_providers"), p.oauth_providers or ()) for n, p in plans.plans.items()]
    for file, path, patterns in lists:
        for index, text in enumerate(patterns):
            if text != EVERY and not any(matches((text,), name) for name in gateway.oauth_providers):
                at = (*path, index)
                yield file, Finding(at, "no OAuth provider is called so", shown(text), severity="warning")


def tenant_findings(gateway: Gateway, allowlists: Allowlists, config: Tenant) -> Iterator[Finding]:
    """What is wrong with a tenant's MCP servers, and with connections that it names."""
    permitted = permitted_providers(gateway, allowlists, config)
    for index, one in enumerate(config.egress.inject):
        if one.connection is not None:
            key = "provider" if one.provider is not None else "connection"
            yield from _provider_findings(
                gateway, permitted, ("egress", "inject", index, key), one.provider or one.connection
            )
    for name, server in config.mcp_servers.items():
        path: Path = ("mcp_servers", name)
        host, port = place_of(server.url)
        if not any(covers(text, host, port) for text in allowlists.mcp_servers):
            message = f"`mcp_servers` of {ALLOWLISTS} has no such host"
            yield Finding((*path, "url"), message, shown(f"{host}:{port}"), allowlists.mcp_servers)
        if server.connection is not None:
            yield from _connection_findings(gateway, permitted, path, server)
        for index, agent in enumerate(server.agents):
            if agent not in config.agents:
                choice = tuple(config.agents)
                at = (*path, "agents", index)
                yield Finding(at, "no such agent", shown(agent), choice, nearest(agent, choice))


def _connection_findings(
    gateway: Gateway, permitted: tuple[str, ...], path: Path, server: McpServer
) -> Iterator[Finding]:
    named = server.provider or server.connection or ""
    at = (*path, "provider" if server.provider is not None else "connection")
    wrong = tuple(_provider_findings(gateway, permitted, at, named))
    yield from wrong
    if not wrong and gateway.oauth_providers[named].place_for(*place_of(server.url)) is None:
        hosts = tuple(text for place in gateway.oauth_providers[named].allow for text in place.hosts)
        host, port = place_of(server.url)
        message = f"`allow` of the provider {named} in {GATEWAY} does not name this host: its tokens do not go there"
        yield Finding((*path, "url"), message, shown(f"{host}:{port}"), hosts)


def _provider_findings(gateway: Gateway, permitted: tuple[str, ...], path: Path, named: str) -> Iterator[Finding]:
    if named not in gateway.oauth_providers:
        choice = tuple(gateway.oauth_providers)
        message = f"{GATEWAY} has no such OAuth provider"
        yield Finding(path, message, shown(named), choice, nearest(named, choice))
    elif named not in permitted:
        yield Finding(path, "this tenant may not connect with that OAuth provider", shown(named), permitted)
