"""The vendor of the tests, held to OAuth's texts by a client that is not ours: Authlib's."""

import asyncio
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from authlib.common.security import generate_token
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from carrel.wire import oauth
from tests.fakes.oauth_vendor import CLIENT, SECRET, running_vendor

REDIRECT = "http://127.0.0.1:9/oauth/callback"


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_authlibs_client_is_served(method: str) -> None:
    async with running_vendor(redirect_uris={REDIRECT}) as vendor, aiohttp.ClientSession() as browser:
        session = OAuth2Session(
            CLIENT, SECRET.replace(":", "%3A").replace(" ", "%20").replace("%s", "%25s")
            if method == "client_secret_basic" else SECRET,
            redirect_uri=REDIRECT, scope="read", token_endpoint_auth_method=method, code_challenge_method="S256",
        )  # fmt: skip
        verifier = generate_token(48)
        url, state = session.create_authorization_url(f"{vendor.url}/authorize", code_verifier=verifier)
        async with browser.get(f"{url}&allow=1", allow_redirects=False) as reply:
            back = reply.headers["Location"]
        query = parse_qs(urlsplit(back).query)
        assert (query["state"], query["iss"]) == ([state], [vendor.url])

        def fetch(code_verifier: str) -> dict[str, object]:
            return dict(
                session.fetch_token(f"{vendor.url}/token", authorization_response=back, code_verifier=code_verifier)
            )

        token = await asyncio.to_thread(fetch, verifier)
        assert (token["token_type"], token["expires_in"]) == ("Bearer", 3600)
        renewed = await asyncio.to_thread(lambda: dict(session.refresh_token(f"{vendor.url}/token")))
        assert renewed["refresh_token"] != token["refresh_token"]
        old = token["refresh_token"]
        with pytest.raises(OAuthError, match="invalid_grant"):
            await asyncio.to_thread(lambda: session.refresh_token(f"{vendor.url}/token", refresh_token=old))
        assert vendor.grants[0].over, "one that comes again ends them all"
        with pytest.raises(OAuthError, match="invalid_grant"):
            await asyncio.to_thread(fetch, verifier)
        answer = await asyncio.to_thread(
            lambda: session.revoke_token(f"{vendor.url}/revoke", token="unknown", token_type_hint="refresh_token")
        )
        assert answer.status_code == 200
        session.close()


async def test_a_wrong_verifier_gets_nothing() -> None:
    async with running_vendor() as vendor, aiohttp.ClientSession() as browser:
        session = OAuth2Session(
            CLIENT, SECRET, redirect_uri=REDIRECT, code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_post",
        )  # fmt: skip
        url, _ = session.create_authorization_url(f"{vendor.url}/authorize", code_verifier=generate_token(48))
        async with browser.get(f"{url}&allow=1", allow_redirects=False) as reply:
            back = reply.headers["Location"]
        with pytest.raises(OAuthError, match="invalid_grant"):
            await asyncio.to_thread(
                lambda: session.fetch_token(
                    f"{vendor.url}/token", authorization_response=back, code_verifier=generate_token(48)
                )
            )
        session.close()


def test_ours_and_authlibs_challenges_are_the_same() -> None:
    for _ in range(20):
        verifier = generate_token(48)
        assert oauth.challenge(verifier) == create_s256_code_challenge(verifier)
