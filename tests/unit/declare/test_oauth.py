"""OAuth providers as they are declared."""

from typing import Any

import pytest
from pydantic import ValidationError

from carrel.declare.hosts import canonical
from carrel.declare.oauth import CredentialPlace, OAuthProvider, place_of

GOOD: dict[str, Any] = {"authorize_url": "https://v.example/a", "token_url": "https://v.example/t", "client_id": "c"}


def test_a_provider_proves_with_pkce_unless_it_has_a_secret_and_is_told_not_to() -> None:
    assert OAuthProvider.model_validate(GOOD).pkce
    with pytest.raises(ValidationError, match="client_secret"):
        OAuthProvider.model_validate({**GOOD, "pkce": False})
    assert not OAuthProvider.model_validate({**GOOD, "pkce": False, "client_secret": {"secret": "X"}}).pkce


@pytest.mark.parametrize(
    "url",
    ["http://v.example/t", "https://user@v.example/t", "https://v.example/t#x", "https://", "ftp://v.example",
     "https://v.example:x/", "http://10.0.0.1/t", "https://v example/"],
)  # fmt: skip
def test_where_credentials_are_not_sent(url: str) -> None:
    with pytest.raises(ValidationError):
        OAuthProvider.model_validate({**GOOD, "token_url": url})


@pytest.mark.parametrize("url", ["https://v.example/t", "http://127.0.0.1:9/t", "http://localhost/t", "http://[::1]/t"])
def test_where_they_are(url: str) -> None:
    assert OAuthProvider.model_validate({**GOOD, "token_url": url}).token_url == url


def test_what_the_gateway_sets_itself_is_no_parameter() -> None:
    with pytest.raises(ValidationError, match="state"):
        OAuthProvider.model_validate({**GOOD, "parameters": {"state": "x", "prompt": "consent"}})


def test_a_token_goes_to_the_named_hosts_and_ports_alone() -> None:
    provider = OAuthProvider.model_validate(
        {
            **GOOD,
            "allow": ({"hosts": ("api.v.example", "*.git.example:8443")}, {"hosts": ("git.example",), "basic": "x"}),
        }
    )
    assert place_of("https://API.v.example/x") == (canonical("api.v.example"), 443)
    for host, port, header in (
        ("api.v.example", 443, "Authorization"), ("a.git.example", 8443, "Authorization"),
        ("git.example", 443, "basic"), ("git.example", 8443, None), ("api.v.example", 80, None),
        ("xapi.v.example", 443, None),
    ):  # fmt: skip
        place = provider.place_for(canonical(host), port)
        assert (None if place is None else "basic" if place.basic else place.header) == header
    with pytest.raises(ValidationError):
        CredentialPlace.model_validate({"hosts": ()})
