"""What must agree between providers, servers, lists and tenants: found with place and mend."""

from pathlib import Path
from typing import Any

import pytest

from carrel.declare.allowlists import Allowlists
from carrel.declare.gateway import Gateway
from carrel.declare.judge import judge
from carrel.declare.load import check
from carrel.declare.oauth import OAuthProvider
from carrel.declare.operators import Operators
from carrel.declare.outward import matches, pattern_findings, permitted_providers
from carrel.declare.plans import Plans
from carrel.declare.tenant import Plan, Tenant

PROVIDER = OAuthProvider.model_validate({
    "authorize_url": "https://v.example/a", "token_url": "https://v.example/t", "client_id": "c",
    "allow": ({"hosts": ("mcp.v.example",)},),
})  # fmt: skip
GATEWAY = Gateway(
    oauth_providers={"github": PROVIDER, "gitlab": PROVIDER, "google": PROVIDER},
    models={}, default_model=None,
)  # fmt: skip
LISTS = Allowlists(mcp_servers=("mcp.v.example", "*.mcp.example"), oauth_providers=("git*",))
AGENTS = {"main": {"model": "demo"}}


def findings(**declared: Any) -> list[tuple[tuple[object, ...], str, str | None]]:
    verdict = judge(Operators(GATEWAY, allowlists=LISTS), {"models": [], "agents": {}, **declared}, None)
    return [(f.path, f.message, f.nearest) for f in verdict.declared if f.path[0] != "agents"]


def test_who_may_connect_with_what() -> None:
    assert permitted_providers(GATEWAY, LISTS, Tenant()) == ("github", "gitlab")
    assert permitted_providers(GATEWAY, LISTS, Tenant(oauth_providers=("gitlab", "google"))) == ("gitlab",)
    assert permitted_providers(GATEWAY, LISTS, Tenant(oauth_providers=())) == ()
    assert permitted_providers(GATEWAY, Allowlists(), Tenant()) == ("github", "gitlab", "google")
    assert matches(("a*",), "ab")
    assert not matches(("a",), "ab")


def test_patterns_that_are_nobodys_are_warned_about() -> None:
    plans = Plans(plans={"pro": Plan(oauth_providers=("github", "slack"))})
    lists = Allowlists(oauth_providers=("*", "lab*"))
    found = [(file, f.path, f.severity) for file, f in pattern_findings(GATEWAY, lists, plans)]
    assert found == [
        ("_allowlists.yaml", ("oauth_providers", 1), "warning"),
        ("_plans.yaml", ("plans", "pro", "oauth_providers", 1), "warning"),
    ]


@pytest.mark.parametrize(
    ("declared", "path", "said", "near"),
    [
        ({"egress": {"inject": [{"connection": "githb", "env": "T"}]}}, ("egress", "inject", 0, "connection"),
         "no such OAuth provider", "github"),
        ({"egress": {"inject": [{"connection": "work", "provider": "google", "env": "T"}]}},
         ("egress", "inject", 0, "provider"), "may not connect", None),
        ({"mcp_servers": {"x": {"url": "https://evil.example/"}}}, ("mcp_servers", "x", "url"), "no such host", None),
        ({"mcp_servers": {"x": {"url": "https://mcp.v.example:444/mcp"}}}, ("mcp_servers", "x", "url"), "no such host",
         None),
        ({"mcp_servers": {"x": {"url": "https://a.mcp.example/", "connection": "github"}}}, ("mcp_servers", "x", "url"),
         "its tokens do not go there", None),
        ({"mcp_servers": {"x": {"url": "https://mcp.v.example/", "connection": "gitla"}}},
         ("mcp_servers", "x", "connection"), "no such OAuth provider", "gitlab"),
        ({"mcp_servers": {"x": {"url": "https://mcp.v.example/", "agents": ["mian"]}}},
         ("mcp_servers", "x", "agents", 0), "no such agent", "main"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(
    declared: dict[str, Any], path: tuple[object, ...], said: str, near: str | None
) -> None:
    ((where, message, close),) = findings(**declared)
    assert (where, close) == (path, near)
    assert said in message


def test_what_is_right_is_not() -> None:
    assert findings(
        egress={"inject": [{"connection": "github", "env": "T"}]},
        mcp_servers={"x": {"url": "https://mcp.v.example/", "connection": "work", "provider": "github"}},
    ) == []  # fmt: skip


def test_a_file_says_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "_gateway.yaml").write_text(
        "providers: {demo: {kind: demo}}\n"
        "oauth_providers:\n  github:\n    authorize_url: https://v.example/a\n    token_url: http://v.example/t\n"
        "    client_id: x\n    client_secret: plain-text\n"
    )
    told = [(p.line, p.path, p.message) for p in check(tmp_path)]
    assert [(line, path) for line, path, _ in told] == [
        (5, "oauth_providers.github.token_url"), (7, "oauth_providers.github.client_secret"),
    ]  # fmt: skip
    assert "https" in told[0][2]
