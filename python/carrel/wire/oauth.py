"""OAuth 2 as its texts write it, both ways: RFC 6749, 7636 (PKCE), 7009 (revocation), 8707 (resource), 9207 (issuer),
and what OpenID Connect Core 1.0 says of an ID token that comes from the token endpoint. Pure: knows no socket.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from carrel.declare.oauth import OAuthProvider
from carrel.errors import CarrelError, InvalidRequest

MOST_TOKEN: Final = 16 << 10
ACCOUNT_FIELDS: Final = ("email", "login", "preferred_username", "name", "sub", "id")
_OPENID: Final = "openid"
_ONCE: Final = ("code", "state", "iss", "error", "error_description")


class OAuthRefused(CarrelError):
    """The vendor said no, in OAuth's words: ``error`` is its code, as `invalid_grant`."""

    code = "oauth_refused"

    def __init__(self, error: str, description: str = "") -> None:
        said = f"{error}: {description}" if description else error
        super().__init__(f"The vendor refused it ({said}).")
        self.error = error


class OAuthUnclear(CarrelError):
    """What came back is not what OAuth says."""

    code = "oauth_unclear"


@dataclass(frozen=True, slots=True)
class Returned:
    """What a browser brings back from a vendor."""

    state: str
    code: str = ""
    iss: str | None = None
    error: str = ""
    description: str = ""


def returned(pairs: Iterable[tuple[str, str]]) -> Returned:
    """The query of a callback; raises InvalidRequest where something in it is there twice, or there is no state."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in _ONCE:
            continue
        if name in found:
            raise InvalidRequest(f"`{name}` is there twice.")
        found[name] = value
    if not found.get("state") or not (found.get("code") or found.get("error")):
        raise InvalidRequest("This address is where a vendor sends a browser back to; nothing is here without that.")
    error, description = tidy(found.get("error", ""), 64), tidy(found.get("error_description", ""), 300)
    return Returned(found["state"], found.get("code", ""), found.get("iss"), error, description)


def tidy(text: str, most: int = 200) -> str:
    """Foreign text that is shown to people: one line, printable, of a bounded length."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:most]).strip()


def challenge(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636, 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def authorization_url(
    provider: OAuthProvider, *, redirect_uri: str, state: str, scopes: Sequence[str], verifier: str, nonce: str
) -> str:
    """Where a browser is sent. A query that the endpoint's address has already is kept (RFC 6749, 3.1)."""
    asked = {
        "response_type": "code", "client_id": provider.client_id, "redirect_uri": redirect_uri, "state": state,
    }  # fmt: skip
    if scopes:
        asked["scope"] = " ".join(scopes)
    if provider.pkce:
        asked |= {"code_challenge": challenge(verifier), "code_challenge_method": "S256"}
    if _OPENID in scopes:
        asked["nonce"] = nonce
    if provider.resource is not None:
        asked["resource"] = provider.resource
    parts = urlsplit(provider.authorize_url)
    own = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in asked]
    return urlunsplit(parts._replace(query=urlencode([*own, *provider.parameters.items(), *asked.items()])))


def check_issuer(provider: OAuthProvider, iss: str | None) -> None:
    """Raise OAuthUnclear where ``iss``, which came with a code, is not the vendor's (RFC 9207, 2.4)."""
    if iss is None:
        return
    if provider.issuer is not None:
        good = iss == provider.issuer
    else:
        # Where none is declared, it is at least of the host that the browser was sent to.
        told, sent = urlsplit(iss), urlsplit(provider.authorize_url)
        good = (told.scheme, told.netloc.lower()) == (sent.scheme, sent.netloc.lower())
    if not good:
        raise OAuthUnclear(f"The answer is of another issuer ({tidy(iss)}): nothing was asked for with its code.")


def code_fields(provider: OAuthProvider, *, code: str, redirect_uri: str, verifier: str) -> dict[str, str]:
    """The body that exchanges a code."""
    fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
    if provider.pkce:
        fields["code_verifier"] = verifier
    return _with_resource(provider, fields)


def refresh_fields(provider: OAuthProvider, refresh_token: str) -> dict[str, str]:
    """The body that asks for a new token."""
    return _with_resource(provider, {"grant_type": "refresh_token", "refresh_token": refresh_token})


def revoke_fields(token: str, *, hint: str) -> dict[str, str]:
    """The body that revokes a token; ``hint`` is `access_token` or `refresh_token`."""
    return {"token": token, "token_type_hint": hint}


def _with_resource(provider: OAuthProvider, fields: dict[str, str]) -> dict[str, str]:
    return fields if provider.resource is None else {**fields, "resource": provider.resource}


def authenticated(
    provider: OAuthProvider, secret: str | None, fields: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Headers and body with the client in them (RFC 6749, 2.3.1)."""
    if secret is None:
        return {}, {**fields, "client_id": provider.client_id}
    if provider.client_auth == "post":
        return {}, {**fields, "client_id": provider.client_id, "client_secret": secret}
    pair = f"{quote(provider.client_id, safe='')}:{quote(secret, safe='')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, dict(fields)


def form(fields: Mapping[str, str]) -> bytes:
    """A body as forms are sent."""
    return urlencode(fields).encode()


def _whole(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12 else value


TokenText = Annotated[str, Field(pattern=r"^[!-~]+$", max_length=MOST_TOKEN)]


class TokenAnswer(BaseModel):
    """What a token endpoint gives. What is not known in it is left."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, defer_build=True)

    access_token: TokenText = Field(repr=False)
    token_type: str = "bearer"  # noqa: S105 - a kind of token
    expires_in: Annotated[int, Field(ge=0, le=10**10), BeforeValidator(_whole)] | None = None
    refresh_token: TokenText | None = Field(None, repr=False)
    scope: Annotated[str, Field(max_length=20_000)] | None = None
    id_token: Annotated[str, Field(max_length=64 << 10)] | None = Field(None, repr=False)

    @property
    def scopes(self) -> tuple[str, ...] | None:
        """What the token may, where the vendor says it; some put commas where the text has spaces."""
        return None if self.scope is None else tuple(self.scope.replace(",", " ").split())


def token_answer(status: int, content_type: str, body: bytes) -> TokenAnswer:
    """The answer of a token endpoint; raises OAuthRefused, OAuthUnclear. Some refuse with status 200."""
    document = _document(content_type, body)
    error = document.get("error")
    if isinstance(error, str) and error:
        raise OAuthRefused(tidy(error, 64), tidy(str(document.get("error_description") or ""), 300))
    if status != 200:
        raise OAuthUnclear(f"The vendor's token endpoint answered {status}, and no error in OAuth's words.")
    try:
        answer = TokenAnswer.model_validate(document)
    except ValidationError as problem:
        first = problem.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise OAuthUnclear(f"The vendor's token answer is not as OAuth says: {where}: {first['msg']}.") from None
    if answer.token_type.lower() != "bearer":
        raise OAuthUnclear(f"The vendor gives tokens of the kind {tidy(answer.token_type, 40)!r}; bearer is taken.")
    return answer


def _document(content_type: str, body: bytes) -> dict[str, Any]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def id_claims(provider: OAuthProvider, id_token: str, *, nonce: str, now: float) -> dict[str, Any]:
    """The claims of an ID token; raises OAuthUnclear where it is another's, for another, or of another request.

    It came from the token endpoint over TLS, which stands in place of its signature (OpenID Connect Core, 3.1.3.7).
    """
    parts = id_token.split(".")
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4) if len(parts) == 3 else ""
        claims = json.loads(base64.urlsafe_b64decode(padded))
    except (ValueError, binascii.Error, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise OAuthUnclear("The vendor's ID token cannot be read.")
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if provider.client_id not in named or claims.get("azp", provider.client_id) != provider.client_id:
        raise OAuthUnclear("The vendor's ID token is for another client.")
    if claims.get("nonce") != nonce:
        raise OAuthUnclear("The vendor's ID token is of another request: its nonce is not ours.")
    if provider.issuer is not None and claims.get("iss") != provider.issuer:
        raise OAuthUnclear("The vendor's ID token is of another issuer.")
    expires = claims.get("exp")
    if not isinstance(expires, int | float) or expires < now - 60:
        raise OAuthUnclear("The vendor's ID token is over already.")
    return claims


def account_in(provider: OAuthProvider, claims: Mapping[str, Any]) -> str | None:
    """What names the account among ``claims``."""
    wanted = (provider.account_field,) if provider.account_field is not None else ACCOUNT_FIELDS
    for name in wanted:
        value = claims.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return tidy(str(value))
    return None
