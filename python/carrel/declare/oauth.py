"""OAuth providers: where people's accounts are, and where the tokens that they give may be sent."""

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from carrel.declare.base import Declared, Seconds, SecretRef
from carrel.declare.egress import HeaderName, Network, RuleText, covers
from carrel.declare.hosts import Host, canonical

_PORTS: Final = {"https": 443, "http": 80}
RESERVED: Final = frozenset({
    "client_id", "client_secret", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce",
    "code_challenge", "code_challenge_method", "resource", "request", "request_uri",
})  # fmt: skip
"""Parameters of an authorization request that the gateway sets itself."""


def place_of(url: str) -> tuple[Host, int]:
    """Host and port of a URL; raises ValueError."""
    parts = urlsplit(url)
    return canonical(parts.hostname or ""), parts.port or _PORTS.get(parts.scheme, 443)


def judged_url(url: str) -> str:
    """``url``, where it is https, or http of this very machine; raises ValueError."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("an address here has no user and no fragment in it")
    try:
        host, _ = place_of(url)
    except Exception as error:
        raise ValueError(str(error)) from error
    own = host.name == "localhost" or (host.address is not None and host.address.is_loopback)
    if parts.scheme != "https" and not own:
        raise ValueError("this must be https: plain http is taken for loopback alone")
    return url


Url = Annotated[str, Field(pattern=r"^https?://[!-~]+$", max_length=2000), AfterValidator(judged_url)]
"""An address that credentials may be sent to."""
OAuthScope = Annotated[str, Field(pattern=r"^[!#-\[\]-~]{1,256}$")]
"""One scope as RFC 6749 writes it."""
ParameterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Template = Annotated[str, Field(max_length=500, pattern=r"^[^\r\n]*\{\}[^\r\n]*$")]


class CredentialPlace(Declared):
    """Hosts that a connection's token may be sent to, and where in a request it stands there."""

    hosts: Annotated[tuple[RuleText, ...], Field(min_length=1, max_length=64)] = Field(
        description="Hosts, as egress rules write them."
    )
    header: HeaderName = Field("Authorization", description="The header that it stands in.")
    template: Template = Field("Bearer {}", description="What the header is, with `{}` for the token.")
    basic: Annotated[str, Field(max_length=200, pattern=r"^[^:\r\n]*$")] | None = Field(
        None, description="Basic authentication as this user with the token as the password, in place of the header."
    )

    def is_for(self, host: Host, port: int) -> bool:
        """Whether the token may go to that host and port."""
        return any(covers(text, host, port) for text in self.hosts)


class OAuthProvider(Declared):
    """A service where people have accounts, which they connect by OAuth 2 (the authorization code grant with PKCE)."""

    display_name: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="What people are shown. Default: the provider's name here."
    )
    authorize_url: Url = Field(description="The vendor's authorization endpoint, where people's browsers are sent.")
    token_url: Url = Field(description="The vendor's token endpoint.")
    revoke_url: Url | None = Field(
        None, description="The vendor's revocation endpoint (RFC 7009); without one a token is only forgotten here."
    )
    issuer: Url | None = Field(
        None,
        description="The vendor's issuer. With it every answer to a browser must name it as `iss` (RFC 9207) or in an "
        "ID token; an `iss` that is another is refused in any case.",
    )
    client_id: Annotated[str, Field(pattern=r"^[ -~]{1,500}$")] = Field(
        description="What the vendor calls this gateway."
    )
    client_secret: SecretRef | None = Field(
        None, description="The client's secret, as `{secret: NAME}`; left out where the vendor gave none."
    )
    client_auth: Literal["basic", "post"] = Field(
        "basic", description="How the client's secret is sent to the token endpoint: as basic authentication, or in "
        "the body."
    )  # fmt: skip
    scopes: Annotated[tuple[OAuthScope, ...], Field(max_length=100)] = Field(
        (), description="What is asked for where a link names no scopes."
    )
    more_scopes: Annotated[tuple[OAuthScope, ...], Field(max_length=100)] = Field(
        (), description="What a link may ask for besides."
    )
    pkce: bool = Field(
        True, description="Prove with PKCE (S256) that who asked for a code uses it. Off only with `client_secret`."
    )
    resource: Url | None = Field(
        None, description="The resource that tokens are for (RFC 8707), said in both requests, as MCP servers want it."
    )
    parameters: dict[ParameterName, Annotated[str, Field(max_length=1000)]] = Field(
        default_factory=dict,
        description="More parameters of the authorization request, as `{access_type: offline, prompt: consent}`.",
    )
    account_url: Url | None = Field(
        None, description="Where the account is asked for once, with the new token, as `https://api.github.com/user`."
    )
    account_field: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = Field(
        None,
        description="The field of that answer, or of an ID token, that names the account. Default: the first there is "
        "of `email`, `login`, `preferred_username`, `name`, `sub` and `id`.",
    )
    addresses: Annotated[tuple[Network, ...], Field(max_length=64)] = Field(
        (), description="Private addresses, as CIDR, that these hosts may have; without it they are refused."
    )
    timeout_seconds: Seconds = Field(
        20.0, description="How long the vendor may take to answer one request of the gateway's."
    )
    refresh_before_seconds: Seconds = Field(
        120.0, description="How long before its end a token is replaced by a new one."
    )
    allow: Annotated[tuple[CredentialPlace, ...], Field(max_length=32)] = Field(
        (), description="Where tokens may be sent, and how. Nowhere else are they."
    )

    @model_validator(mode="after")
    def _sound(self) -> "OAuthProvider":
        if not self.pkce and self.client_secret is None:
            raise ValueError("`pkce: false` goes with a `client_secret`: with neither, whoever reads a code can use it")
        taken = sorted(RESERVED & self.parameters.keys())
        if taken:
            raise ValueError(f"`parameters` may not hold {', '.join(taken)}: the gateway sets them itself")
        return self

    def place_for(self, host: Host, port: int) -> CredentialPlace | None:
        """How the token is sent to that host and port, None where it is not."""
        return next((place for place in self.allow if place.is_for(host, port)), None)
