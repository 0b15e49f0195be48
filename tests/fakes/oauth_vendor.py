"""A vendor with accounts, as OAuth 2 writes it: RFC 6749 (code and refresh grants), 7636, 7009, 9207, ID tokens.

Strict where the texts are: redirect addresses match exactly, codes are good once, a refresh token is replaced at each
use, and one that comes again ends all that came of its grant. ``python -m tests.fakes.oauth_vendor`` is one as a
process: it prints its port. `POST /knobs` sets what it does wrong, `GET /log` tells what it was asked.
"""

import asyncio
import base64
import hashlib
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode

from aiohttp import web

CLIENT = "carrel-client"
SECRET = "client-secret: with odd%signs"


@dataclass
class Knobs:
    """What it does. ``iss``: the issuer it tells, "" for none. ``grace``: the refresh token before stays good."""

    iss: str | None = None
    expires_in: int | None = 3600
    rotates: bool = True
    grace: bool = False
    refresh: bool = True
    token_status: int = 200
    token_delay: float = 0.0
    deny: str = ""
    form: bool = False
    id_nonce: str | None = None
    answer: dict[str, Any] = field(default_factory=dict)


@dataclass
class Grant:
    """What somebody has allowed a client: one family of tokens."""

    account: str
    scopes: str
    redirect_uri: str
    challenge: str | None
    nonce: str | None
    resource: str | None = None
    used: bool = False
    over: bool = False
    access: list[str] = field(default_factory=list)
    refresh: list[str] = field(default_factory=list)


class OAuthVendor:
    """One vendor. ``url`` is known when it listens."""

    def __init__(self, *, redirect_uris: set[str] | None = None, secret: str | None = SECRET) -> None:
        self.url = ""
        self.redirect_uris = redirect_uris
        self.secret = secret
        self.knobs = Knobs()
        self.log: list[dict[str, Any]] = []
        self.codes: dict[str, Grant] = {}
        self.grants: list[Grant] = []

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/authorize", self.authorize)
        app.router.add_post("/token", self.token)
        app.router.add_post("/revoke", self.revoke)
        app.router.add_get("/userinfo", self.userinfo)
        app.router.add_post("/knobs", self.turn)
        app.router.add_get("/log", self.tell)
        app.router.add_route("*", "/api/{rest:.*}", self.api)
        return app

    # --- a person's browser ---

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """Ask the person; who says yes (`allow=1` in the query, as the page's link has it) is sent back."""
        query = request.query
        self.log.append({"path": "/authorize", **query, "referer": request.headers.get("Referer")})
        redirect = query.get("redirect_uri", "")
        if query.get("client_id") != CLIENT or (self.redirect_uris is not None and redirect not in self.redirect_uris):
            # Never back to an address that is not known (RFC 6749, 4.1.2.1).
            return web.Response(status=400, text="unknown client or redirect address")
        if "allow" not in query:
            where = f"/authorize?{urlencode({**query, 'allow': '1'})}".replace("&", "&amp;")
            page = f'<!doctype html><title>Vendor</title><a id="allow" href="{where}">Allow</a>'
            return web.Response(text=page, content_type="text/html")
        back = {"state": query.get("state", "")}
        iss = self.url if self.knobs.iss is None else self.knobs.iss
        if iss:
            back["iss"] = iss
        if self.knobs.deny or query.get("response_type") != "code":
            back["error"] = self.knobs.deny or "unsupported_response_type"
        elif query.get("code_challenge") and query.get("code_challenge_method") != "S256":
            back["error"] = "invalid_request"
        else:
            code = secrets.token_urlsafe(24)
            self.codes[code] = Grant(
                "octocat", query.get("scope", ""), redirect, query.get("code_challenge"), query.get("nonce"),
                query.get("resource"),
            )  # fmt: skip
            back["code"] = code
        raise web.HTTPFound(f"{redirect}?{urlencode(back)}")

    # --- the client ---

    async def token(self, request: web.Request) -> web.StreamResponse:
        body = dict(await request.post())
        fields = {name: str(value) for name, value in body.items()}
        self.log.append({"path": "/token", "grant_type": fields.get("grant_type"), "resource": fields.get("resource")})
        problem = self._client_problem(request, fields)
        if problem is not None:
            return problem
        if self.knobs.token_status != 200:
            return web.Response(status=self.knobs.token_status, text="<h1>broken</h1>")
        grant = self._grant_of(fields)
        if isinstance(grant, str):
            await asyncio.sleep(self.knobs.token_delay)
            return _refused(grant)
        answer = self._tokens(grant)
        # What it has given counts before its answer arrives, as with any vendor.
        await asyncio.sleep(self.knobs.token_delay)
        if self.knobs.form:
            text = urlencode({name: str(value) for name, value in answer.items()})
            return web.Response(text=text, content_type="application/x-www-form-urlencoded")
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    def _client_problem(self, request: web.Request, fields: dict[str, str]) -> web.Response | None:
        scheme, _, basic = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            name, _, secret = base64.b64decode(basic).decode().partition(":")
            given = unquote(name), unquote(secret)
        else:
            given = fields.get("client_id", ""), fields.get("client_secret", "")
        if given != (CLIENT, self.secret or ""):
            return web.json_response({"error": "invalid_client"}, status=401, headers={"WWW-Authenticate": "Basic"})
        return None

    def _grant_of(self, fields: dict[str, str]) -> Grant | str:
        if fields.get("grant_type") == "authorization_code":
            grant = self.codes.get(fields.get("code", ""))
            if grant is None or grant.redirect_uri != fields.get("redirect_uri"):
                return "invalid_grant"
            if grant.used:
                # A code that comes twice was stolen: what came of it ends (RFC 6749, 4.1.2).
                grant.over = True
                return "invalid_grant"
            grant.used = True
            digest = hashlib.sha256(fields.get("code_verifier", "").encode()).digest()
            proof = base64.urlsafe_b64encode(digest).decode().rstrip("=")
            if grant.challenge is not None and proof != grant.challenge:
                return "invalid_grant"
            self.grants.append(grant)
            return grant
        if fields.get("grant_type") == "refresh_token":
            given = fields.get("refresh_token", "")
            for grant in self.grants:
                if given in grant.refresh:
                    good = grant.refresh[-2:] if self.knobs.grace else grant.refresh[-1:]
                    if grant.over or (self.knobs.rotates and given not in good):
                        grant.over = True
                        return "invalid_grant"
                    return grant
            return "invalid_grant"
        return "unsupported_grant_type"

    def _tokens(self, grant: Grant) -> dict[str, Any]:
        grant.access.append("at-" + secrets.token_hex(16))
        answer: dict[str, Any] = {"access_token": grant.access[-1], "token_type": "Bearer", "scope": grant.scopes}
        if self.knobs.expires_in is not None:
            answer["expires_in"] = self.knobs.expires_in
        if self.knobs.refresh and (self.knobs.rotates or not grant.refresh):
            grant.refresh.append("rt-" + secrets.token_hex(16))
            answer["refresh_token"] = grant.refresh[-1]
        if "openid" in grant.scopes.split() and len(grant.access) == 1:
            nonce = grant.nonce if self.knobs.id_nonce is None else self.knobs.id_nonce
            answer["id_token"] = _jwt({
                "iss": self.url, "aud": CLIENT, "sub": "7", "email": "octo@example.com", "nonce": nonce,
                "exp": int(time.time()) + 300,
            })  # fmt: skip
        return {**answer, **self.knobs.answer}

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        fields = {name: str(value) for name, value in (await request.post()).items()}
        self.log.append({"path": "/revoke", "hint": fields.get("token_type_hint")})
        problem = self._client_problem(request, fields)
        if problem is not None:
            return problem
        for grant in self.grants:
            if fields.get("token") in (*grant.access, *grant.refresh):
                grant.over = True
        # An unknown token is answered alike (RFC 7009, 2.2).
        return web.Response()

    # --- what tokens are good for ---

    def owner(self, request: web.Request) -> Grant | None:
        """Whose token a request has, as long as it is good."""
        _, _, given = request.headers.get("Authorization", "").partition(" ")
        return next((grant for grant in self.grants if given in grant.access and not grant.over), None)

    async def userinfo(self, request: web.Request) -> web.StreamResponse:
        grant = self.owner(request)
        if grant is None:
            return web.json_response({"message": "Bad credentials"}, status=401)
        return web.json_response({"login": grant.account, "id": 7})

    async def api(self, request: web.Request) -> web.StreamResponse:
        """Tells what it was sent, the token too, as a careless service does."""
        grant = self.owner(request)
        told = {"account": grant.account if grant else None, "headers": dict(request.headers), "path": request.path}
        self.log.append({**told, "path": request.path})
        return web.json_response(told, status=200 if grant else 401)

    # --- tests ---

    async def turn(self, request: web.Request) -> web.StreamResponse:
        for name, value in (await request.json()).items():
            setattr(self.knobs, name, value)
        return web.Response()

    async def tell(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"log": self.log, "grants": [vars(grant) for grant in self.grants]})


def _refused(error: str) -> web.Response:
    return web.json_response({"error": error, "error_description": f"because of {error}"}, status=400)


def _jwt(claims: dict[str, Any]) -> str:
    parts = [{"alg": "RS256"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


def declared(url: str, **more: Any) -> dict[str, Any]:
    """The provider as `_gateway.yaml` declares it, of a vendor on loopback."""
    return {
        "display_name": "Vendor", "authorize_url": f"{url}/authorize", "token_url": f"{url}/token",
        "revoke_url": f"{url}/revoke", "account_url": f"{url}/userinfo", "issuer": url, "client_id": CLIENT,
        "client_secret": {"secret": "VENDOR_SECRET"}, "scopes": ["read"], "more_scopes": ["write", "openid"],
        "addresses": ["127.0.0.0/8"], **more,
    }  # fmt: skip


@asynccontextmanager
async def running_vendor(**options: Any) -> AsyncIterator[OAuthVendor]:
    """One in this process."""
    vendor = OAuthVendor(**options)
    runner = web.AppRunner(vendor.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    vendor.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield vendor
    finally:
        await runner.cleanup()


async def _serve() -> None:
    async with running_vendor() as vendor:
        sys.stdout.write(vendor.url + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
