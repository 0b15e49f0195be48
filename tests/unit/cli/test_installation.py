"""Each fault that an installation may have is found, and none where there is none."""

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from carrel.cli import installation
from carrel.cli.failures import GatewayUnreachable, Refused
from carrel.cli.findings import Finding
from carrel.cli.options import Target
from carrel.declare.load import Tree
from carrel.vault.ring import KeyRing

SAMPLE = Path(__file__).resolve().parents[3] / "tenants.d"
STATUS: dict[str, Any] = {
    "sandbox": "bwrap",
    "userland": "closure (1 environment)",
    "environments": [{"packages": ["jq"], "state": "ready"}],
    "limits": [{"limit": "pids", "by": "rlimit", "scope": "sandbox"}, {"limit": "tmp", "by": "x", "scope": "process"}],
    "tenants": [{"id": "acme", "state": "Ready"}],
}


def tree(path: Path) -> Tree:
    found = installation.read(path)
    assert isinstance(found, Tree)
    return found


def test_declarations_right_wrong_and_not_there(tmp_path: Path) -> None:
    for name in ("gateway", "rate-card", "plans", "allowlists"):
        shutil.copy(SAMPLE / f"_{name}.yaml", tmp_path)

    def found() -> Finding:
        return next(installation.declarations(tmp_path, installation.read(tmp_path)))

    (tmp_path / "acme.yaml").write_text("{}\n")
    assert (found().state, found().text) == ("ok", f"1 tenant in {tmp_path}")
    (tmp_path / "acme.yaml").write_text("agents: 7\n")
    assert found().state == "fault"
    assert "acme.yaml:1:9" in found().text
    gone = tmp_path / "none"
    assert next(installation.declarations(gone, installation.read(gone))).state == "fault"


def test_a_secret_that_is_named_and_not_there(tmp_path: Path) -> None:
    (tmp_path / "_gateway.yaml").write_text(
        "providers: {x: {kind: openai, api_key: {secret: XKEY}}, y: {kind: openai, base_url: http://127.0.0.1:1/v1}}\n"
    )
    assert [f.state for f in installation.secrets(tree(tmp_path), None)] == ["warning"]
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "XKEY").write_text("k")
    found = list(installation.secrets(tree(tmp_path), tmp_path / "secrets"))
    assert [(f.what, f.state) for f in found] == [("provider x", "ok")]


def test_a_tenant_s_secret_that_is_named_and_kept_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gateway", "rate-card", "plans", "allowlists"):
        shutil.copy(SAMPLE / f"_{name}.yaml", tmp_path)
    (tmp_path / "acme.yaml").write_text(
        "egress:\n  allow: [api.github.com]\n"
        "  inject: [{secret: GH, env: GITHUB_TOKEN, hosts: [api.github.com], header: Authorization}]\n"
    )

    def found() -> list[Finding]:
        return list(installation.own_secrets(tree(tmp_path), None, tmp_path))

    assert [(f.what, f.state, f.mend) for f in found()] == [("secret of acme", "warning", "carrel secrets set acme GH")]
    assert "egress.inject, as GITHUB_TOKEN" in found()[0].text
    monkeypatch.setenv("CARREL_SECRET_GH", "k")
    assert not found()
    monkeypatch.delenv("CARREL_SECRET_GH")
    kept = tmp_path / "tenants" / "acme" / "credentials" / "vault"
    kept.mkdir(parents=True)
    (kept / "GH.sealed").touch()
    assert not found()


def test_the_master_key_and_one_that_went_missing(tmp_path: Path) -> None:
    def found(*, serves: bool = False) -> Finding:
        return next(installation.vault(tmp_path, None, serves=serves))

    assert (found().state, "No secret was sealed yet" in found().text) == ("ok", True)
    ring = KeyRing(credentials_dir=None, secrets_dir=None, state_dir=tmp_path, makes=True)
    ring.current(to_seal=True)
    assert (found().state, found().text) == ("ok", f"The master key is in {tmp_path}/master.key.")
    if os.geteuid() == 0:
        for place in (tmp_path, tmp_path / "master.key"):
            os.chown(place, 60987, 60987)
        assert found().state == "ok", "root looks at what is another uid's"
        os.chown(tmp_path / "master.key", 60901, 60901)
        assert (found().state, "belongs to uid 60901" in found().text) == ("fault", True)
    (tmp_path / "master.key").unlink()
    assert (found().state, "is gone" in found().text) == ("fault", True)
    assert found(serves=True).state == "warning"


def test_where_no_closure_can_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_gateway.yaml").write_text("{}\n")
    assert "packages.source" in installation.packages(tree(tmp_path), tmp_path).text
    (tmp_path / "_gateway.yaml").write_text(f"packages: {{source: nixpkgs, path: {tmp_path}}}\n")
    monkeypatch.setenv("PATH", "/nowhere")
    found = installation.packages(tree(tmp_path), tmp_path)
    assert (found.state, "Nix is missing" in found.text) == ("warning", True)
    (tmp_path / "_gateway.yaml").write_text("packages: 7\n")
    assert "not understood" in installation.packages(tree(tmp_path), tmp_path).text


def test_a_gateway_that_does_not_answer() -> None:
    away = GatewayUnreachable("No gateway runs.")
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = "127.0.0.1", int(other.getsockname()[1])
        taken = installation.reached(away, Target(), address)
        elsewhere = installation.reached(away, Target(url="http://there"), address)
    assert (taken.state, elsewhere.state) == ("fault", "warning")
    assert "is taken" in taken.text
    assert installation.reached(away, Target(), address).state == "warning"
    assert installation.reached(Refused("No.", code="forbidden"), Target(), address).state == "fault"
    assert installation.reached({}, Target(), address).state == "ok"


@pytest.mark.parametrize(
    ("change", "what", "state"),
    [
        ({"sandbox": "none, so no tool runs: x"}, "sandbox", "fault"),
        ({"userland": "host: Nix is missing"}, "userland", "warning"),
        ({"userland": "none: It has no package jqq."}, "userland", "fault"),
        ({"userland": "closure, being built (0 of 1 environments are ready)"}, "userland", "ok"),
        ({"environments": [{"packages": ["jqq"], "state": "failed", "reason": "r"}]}, "environment", "fault"),
        ({"limits": [{"limit": "memory", "by": "rlimit", "scope": "process"}]}, "limits", "warning"),
        ({"tenants": [{"id": "acme", "state": "Stalled", "reason": "Invalid"}]}, "tenants", "fault"),
        ({"problems": ["_plans.yaml:1:1: what"]}, "declared", "fault"),
        (
            {"channels": [{"tenant": "acme", "channel": "tg", "account": "main", "error": "Unauthorized"}]},
            "channel acme/tg/main",
            "warning",
        ),
        ({"tenants": 2}, "status", "fault"),
    ],
)
def test_what_the_gateway_says_of_itself(change: dict[str, Any], what: str, state: str) -> None:
    assert {finding.state for finding in installation.serving(STATUS)} == {"ok"}
    found = {finding.what: finding.state for finding in installation.serving(STATUS | change)}
    assert found[what] == state


def test_a_sentence_of_the_gateway_ends_once() -> None:
    (found,) = [f for f in installation.serving(STATUS | {"sandbox": "none: it is missing."}) if f.what == "sandbox"]
    assert found.text == "The gateway says: none: it is missing."
