"""What sandboxes may reach, and which secrets the gateway puts into their requests on the way."""

import re
from ipaddress import ip_network
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from carrel.declare.base import Declared, Name
from carrel.declare.hosts import Host, canonical

_CONNECTION: Final = "connection:"
HTTPS: Final = 443
HTTP: Final = 80
_TOP_LEVEL: Final = 1
_TEXT: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>[0-9]{1,5}))?")

Port = Annotated[int, Field(ge=1, le=65535)]
Method = Annotated[str, Field(pattern=r"^[A-Z][A-Z-]{0,31}$")]
PathPrefix = Annotated[str, Field(pattern=r"^/[^\s?#]*$", max_length=1000)]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$&'*+.^_`|~-]{1,128}$")]


def parsed(text: str) -> tuple[str, int]:
    """Host and port of a rule in text form, 443 by default; raises ValueError."""
    found = _TEXT.fullmatch(text)
    if found is None or (text.count(":") > 1 and not text.startswith("[")):
        raise ValueError("wanted `host`, `host:port` or `*.host:port`; an IPv6 address goes in brackets")
    port = int(found["port"] or HTTPS)
    if not 1 <= port <= 65535:
        raise ValueError("a port is 1 to 65535")
    pattern(found["host"])
    return found["host"], port


def pattern(text: str) -> tuple[bool, Host | None]:
    """Whether a rule's host stands for its subdomains, and which host it is; None for `*`. Raises ValueError."""
    if text == "*":
        return True, None
    wild = text.startswith("*.")
    if "*" in text[2 if wild else 0 :]:
        raise ValueError("`*` stands only first, for the subdomains of what follows it")
    try:
        host = canonical(text[2:] if wild else text)
    except Exception as error:
        raise ValueError(str(error)) from error
    if wild and host.address is not None:
        raise ValueError("an address has no subdomains")
    return wild, host


def covers(text: str, host: Host, port: int) -> bool:
    """Whether the rule ``text`` names that host and port."""
    name, its_port = parsed(text)
    wild, named = pattern(name)
    if port != its_port:
        return False
    if not wild or named is None:
        return named in (None, host)
    return host.address is None and host.name.endswith(f".{named.name}")


def _judged_text(text: str) -> str:
    host, _ = parsed(text)
    _refuse_too_wide(host, any_host=False)
    return text


def _judged_host(text: str) -> str:
    pattern(text)
    return text


def _refuse_too_wide(host: str, *, any_host: bool) -> None:
    wild, named = pattern(host)
    if any_host or not wild:
        return
    if named is None or named.name.count(".") < _TOP_LEVEL:
        raise ValueError("this opens very many hosts: write it as a mapping with `any: true` if that is meant")


def _judged_network(text: str) -> str:
    ip_network(text)
    return text


RuleText = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_judged_text)]
RuleHost = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_judged_host)]
Network = Annotated[str, Field(max_length=64), AfterValidator(_judged_network)]


class EgressRule(Declared):
    """Hosts, their ports, and, where the gateway looks into the requests, methods and paths."""

    host: RuleHost = Field(description="`example.com`, `*.example.com` for its subdomains alone, or an address.")
    ports: Annotated[tuple[Port, ...], Field(min_length=1, max_length=64)] = Field((HTTPS,), description="Ports.")
    methods: Annotated[tuple[Method, ...], Field(max_length=32)] = Field(
        (), description="Methods; with any, the gateway ends TLS and looks into the requests."
    )
    paths: Annotated[tuple[PathPrefix, ...], Field(max_length=64)] = Field(
        (), description="Beginnings of paths; with any, the gateway ends TLS and looks into the requests."
    )
    any: bool = Field(False, description="Say that `*`, or all of a top-level domain, is really meant.")
    addresses: Annotated[tuple[Network, ...], Field(max_length=64)] = Field(
        (), description="Private addresses, as CIDR, that this rule's hosts may have; without it they are refused."
    )
    tls: bool | None = Field(None, description="Whether what is said must be TLS. Default: but for port 80.")

    @model_validator(mode="after")
    def _not_too_wide(self) -> "EgressRule":
        _refuse_too_wide(self.host, any_host=self.any)
        return self


class HostSet(Declared):
    """The hosts of a named set."""

    set: Name = Field(description="A set of `_allowlists.yaml`, under `hosts.sets`.")


Rule = RuleText | EgressRule | HostSet
DirectRule = RuleText | EgressRule


class Injection(Declared):
    """What a sandbox uses and never has: it sees a placeholder, which the gateway swaps on the way out."""

    secret: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")] | None = Field(
        None, description="The secret's name, in the tenant's vault or the operator's secrets."
    )
    connection: Name | None = Field(
        None,
        description="In a secret's place: a connection, whose token goes where its provider's `allow` says, and as it "
        "says. Then `hosts` and the place are left out.",
    )
    provider: Name | None = Field(None, description="The connection's provider. Default: the connection's own name.")
    env: EnvironmentName = Field(description="The variable in the sandbox that holds the placeholder.")
    hosts: Annotated[tuple[RuleText, ...], Field(max_length=64)] = Field(
        (), description="Hosts to which a secret goes, as rules write them."
    )
    header: HeaderName | None = Field(None, description="It is this header, or what `template` makes of it.")
    template: Annotated[str, Field(max_length=500, pattern=r"^[^\r\n]*\{\}[^\r\n]*$")] | None = Field(
        None, description="What the header is, with `{}` for the secret: `Bearer {}`."
    )
    query: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(None, description="A query parameter.")
    basic: Annotated[str, Field(max_length=200, pattern=r"^[^:\r\n]*$")] | None = Field(
        None, description="Basic authentication as this user, with the secret as the password."
    )
    body: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="A field of a JSON or form body."
    )
    elsewhere: Literal["refuse", "pass"] = Field(
        "refuse",
        description="What becomes of a request that has the placeholder in another place, or for another host.",
    )
    plain: bool = Field(False, description="Whether it may go over plain HTTP.")
    agents: tuple[Name, ...] = Field((), description="Agents that have it; all of them where none is named.")
    prefix: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = Field(
        "", description="What the placeholder begins with, for programs that look at a key's shape: `ghp_`."
    )

    @model_validator(mode="after")
    def _one_place(self) -> "Injection":
        places = sum(place is not None for place in (self.header, self.query, self.basic, self.body))
        if (self.secret is None) == (self.connection is None):
            raise ValueError("name one of `secret` and `connection`")
        if self.connection is not None:
            if places or self.hosts or self.template is not None or self.plain:
                raise ValueError("a connection's token goes where its provider's `allow` says: name no place here")
            return self
        if self.provider is not None:
            raise ValueError("`provider` goes with `connection`")
        if not self.hosts:
            raise ValueError("`hosts` is missing: name those to which the secret goes")
        if places != 1:
            raise ValueError("name exactly one of `header`, `query`, `basic` and `body`: where in a request it stands")
        if self.template is not None and self.header is None:
            raise ValueError("`template` goes with `header`")
        return self

    @property
    def source(self) -> str:
        """What the value is looked up by: a secret's name, or what `connection_in` reads, which no secret's name is."""
        return self.secret if self.secret is not None else f"{_CONNECTION}{self.provider_name}:{self.connection}"

    @property
    def provider_name(self) -> str | None:
        """The connection's provider, None for a secret."""
        return self.provider or self.connection


def connection_in(source: str) -> tuple[str, str] | None:
    """The provider and the connection that an injection's ``source`` names, None where it is a secret."""
    if not source.startswith(_CONNECTION):
        return None
    provider, _, name = source.removeprefix(_CONNECTION).partition(":")
    return provider, name


class Egress(Declared):
    """What the sandbox may reach: nothing that no rule allows. What `deny` names stays closed."""

    allow: Annotated[tuple[Rule, ...], Field(max_length=1000)] = Field((), description="Hosts that are open.")
    deny: Annotated[tuple[Rule, ...], Field(max_length=1000)] = Field(
        (), description="Hosts that stay closed although `allow` names them."
    )
    only: Annotated[tuple[Rule, ...], Field(max_length=1000)] | None = Field(
        None, description="What `allow` is narrowed to. An overlay's `allow` is put here."
    )
    inject: Annotated[tuple[Injection, ...], Field(max_length=100)] = Field(
        (), description="Secrets that are put into requests on their way."
    )


class HostAllowlist(Declared):
    """Hosts that tenants may be given, and named sets of them."""

    names: Annotated[tuple[RuleText, ...], Field(max_length=10_000)] = Field(
        (), description="Hosts that a tenant's own people may open by a grant, without the operator."
    )
    sets: dict[Name, Annotated[tuple[DirectRule, ...], Field(max_length=1000)]] = Field(
        default_factory=dict, description="Hosts under a name, which rules use as `{set: NAME}`."
    )


OVERLAY_EGRESS_KEYS: Final = ("allow", "deny")
"""Keys of ``egress`` that a tenant may write in its overlay."""
