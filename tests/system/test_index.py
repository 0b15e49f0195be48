"""A gateway whose packages come from an index: no Nix is run, patterns offer, and text that is no name is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.packageset import HOSTILE, built_index, built_sample, fetched, nixpkgs_stand_in

ALLOWED = "packages: {names: [jq], patterns: ['g*t', 'my*']}\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    stand_in = nixpkgs_stand_in(tmp_path_factory.mktemp("nixpkgs"), fetched())
    with built_sample() as built:
        index = built_index(built, stand_in)
        made = GatewayProcess(home=tmp_path_factory.mktemp("index") / "home", closure=True).prepare()
        operator = made.tenants_dir / "_gateway.yaml"
        source = f"source: index\n  path: {index}\n  store: {built.state}/nix"
        operator.write_text(operator.read_text().replace("source: test-set", source) + "require_closure: true\n")
        (made.tenants_dir / "_allowlists.yaml").write_text(ALLOWED)
        for tenant in made.tenants_dir.glob("[a-z]*.yaml"):
            lines = tenant.read_text().splitlines()
            tenant.write_text("\n".join("packages: [jq]" if line.startswith("packages:") else line for line in lines))
        made.start()
        yield made
        assert made.stop() == 0, made.text


def ask(gateway: GatewayProcess, command: str) -> str:
    return json.dumps(gateway.rpc("sessions.send", {"message": f"run: {command}"}))


def test_tools_run_on_what_was_built_beforehand(gateway: GatewayProcess) -> None:
    assert "userland  closure" in gateway.text
    told = ask(gateway, "command -v jq git; jq --version; ls /nix")
    assert "/nix/profile/bin/jq" in told
    assert "/nix/profile/bin/git" not in told
    assert "profile" in told


def test_a_pattern_offers_what_the_index_has(gateway: GatewayProcess) -> None:
    found = gateway.rpc("packages.search", {"query": ""})
    assert [one["name"] for one in found["packages"]] == ["git", "jq", "mytool"]
    assert gateway.rpc("packages.add", {"packages": ["mytool"]})["packages"] == ["jq", "mytool"]
    assert "mine" in ask(gateway, "mytool")
    log = gateway.cli("packages", "log", "--tenant", "demo")
    assert "jq mytool: built in" in log.stdout
    assert "store paths, 0 of them missing" in log.stdout
    done = gateway.cli("packages", "add", "gist", "--tenant", "demo")
    assert done.returncode == 1
    assert "There is no package 'gist'" in done.stderr


def test_text_that_is_no_name_is_refused_by_every_way_in(gateway: GatewayProcess) -> None:
    before = gateway.rpc("packages.list")
    for name in HOSTILE:
        answer = gateway.rpc("packages.add", {"packages": [name]})
        assert answer.get("code"), (name, answer)
    done = gateway.cli("packages", "add", HOSTILE[0], "--tenant", "demo")
    assert done.returncode == 1
    assert gateway.rpc("packages.list")["packages"] == before["packages"]


def test_such_text_in_a_tenants_file_is_a_problem_of_the_file(gateway: GatewayProcess, tmp_path: Path) -> None:
    for file in gateway.tenants_dir.glob("*.yaml"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "acme.yaml").write_text(f"packages: {json.dumps(['jq', *HOSTILE])}\n")
    done = gateway.cli("check", str(tmp_path))
    assert done.returncode == 1
    told = done.stdout + done.stderr
    assert "acme.yaml:1:" in told
    assert [number for number in range(1, len(HOSTILE) + 1) if f"packages[{number}]" not in told] == []
    (tmp_path / "acme.yaml").write_text("packages: [jq, git]\n")
    assert gateway.cli("check", str(tmp_path)).returncode == 0


def test_nix_is_not_run_at_all(gateway: GatewayProcess) -> None:
    assert not (gateway.state_dir / "nix").exists()
    assert not (gateway.state_dir / "nix-home").exists()
    assert {path.suffix for path in (gateway.state_dir / "envs").iterdir()} == {"", ".json", ".profile"}
