"""A machine's settings, judged as a build judges them."""

import json
from pathlib import Path
from typing import Any

import pytest

from carrel.declare.host import HostSettings, Placement, check_against, read_host
from carrel.declare.load import load_tree
from carrel.declare.problems import DeclarationInvalid
from carrel.errors import CarrelError
from carrel.ids import TenantId
from tests.fakes.declarations import declare

SHARDS: dict[str, Any] = {
    "shard": "alpha",
    "rest": "alpha",
    "shards": {"alpha": {"url": "http://10.0.0.1:1"}, "beta": {"url": "http://10.0.0.2:1", "tenants": ["acme"]}},
}


def written(path: Path, **settings: Any) -> Path:
    file = path / "host.json"
    file.write_text(json.dumps({"tenants_dir": "/srv/tenants.d", **settings}, indent=2))
    return file


def refused(path: Path) -> str:
    with pytest.raises(DeclarationInvalid) as told:
        read_host(path)
    return str(told.value)


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    settings = read_host(written(tmp_path))
    assert settings == HostSettings(tenants_dir="/srv/tenants.d")
    assert (settings.listen.port, settings.require_closure, settings.launcher) == (18789, True, None)


def test_all_of_it_is_taken(tmp_path: Path) -> None:
    given = {
        "state_dir": "/data", "listen": {"address": "::1", "port": 9, "names": ["agents.example.org"]},
        "log": {"level": "debug", "json_lines": False}, "require_closure": False, "launcher": "/run/l.sock",
        "drain_seconds": 90, "secrets": ["anthropic"], "placement": SHARDS,
    }  # fmt: skip
    settings = read_host(written(tmp_path, **given))
    assert (settings.drain_seconds, settings.secrets, settings.listen.names) == (
        90,
        ("anthropic",),
        ("agents.example.org",),
    )
    assert settings.placement is not None
    assert not settings.placement.serves(TenantId("acme"))
    assert settings.placement.serves(TenantId("anyone-else"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"drain_second": 5}, "host.json:3:3: drain_second: unknown key; did you mean drain_seconds?"),
        ({"log": {"level": "loud"}}, "log.level: not one of what is allowed, found 'loud'; allowed: debug"),
        ({"listen": {"port": 99999}}, "listen.port: "),
        ({"tenants_dir": "tenants.d"}, "tenants_dir: "),
        ({"state_dir": "/nix/store/x-state"}, "state_dir: it is in the Nix store, which nobody can write"),
        ({"state_dir": "/srv/tenants.d"}, "tenants_dir: declarations and state each want a directory of their own"),
        ({"state_dir": "/srv/tenants.d/state/.."}, "tenants_dir: declarations and state each want a directory"),
        (
            {"placement": SHARDS | {"shard": "alhpa"}},
            "placement.shard: not one of the shards, found 'alhpa'; did you mean",
        ),
        ({"secrets": ["sk-ant-api03-" + "aB3dE5gH7jK9" * 8]}, "secrets[0]: "),
        ({"git": "relative"}, "git: wanted a path from the root, found 'relative'"),
        ({"listen": {"names": ["a b"]}}, "listen.names[0]: wanted a host name, found 'a b'"),
    ],
)
def test_what_is_wrong_is_placed(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    assert said in refused(written(tmp_path, **wrong))


def test_nobody_is_served_by_two(tmp_path: Path) -> None:
    twice = json.loads(json.dumps(SHARDS))
    twice["shards"]["alpha"]["tenants"] = ["acme"]
    assert "alpha serves this tenant already, found 'acme'" in refused(written(tmp_path, placement=twice))


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(CarrelError, match="cannot be read"):
        read_host(tmp_path / "none.json")
    (tmp_path / "long.json").write_text("#" * (1 << 20) + "#")
    with pytest.raises(CarrelError, match="longer than"):
        read_host(tmp_path / "long.json")


def test_a_secret_that_declarations_name_must_be_given(tmp_path: Path) -> None:
    path = declare(tmp_path / "d", acme="")
    claude = "claude: {kind: anthropic, api_key: {secret: anthropic}}"
    told = (path / "_gateway.yaml").read_text()
    (path / "_gateway.yaml").write_text(told.replace("providers: {", f"providers: {{{claude}, ", 1))
    lacking = check_against(HostSettings(tenants_dir="/t", secrets=("antropic",)), path)
    assert [str(problem) for problem in lacking if problem.severity == "error"] == [
        "_gateway.yaml:1:1: providers.claude.api_key: this machine is not given the secret: set "
        "`services.carrel.secrets.anthropic.file`, found 'anthropic'; did you mean antropic?"
    ]
    given = check_against(HostSettings(tenants_dir="/t", secrets=("anthropic",)), path)
    assert [problem for problem in given if problem.severity == "error"] == []


def test_a_tenant_that_is_placed_and_not_declared_is_a_warning(tmp_path: Path) -> None:
    settings = HostSettings(tenants_dir="/t", placement=Placement.model_validate_json(json.dumps(SHARDS)))
    (problem,) = check_against(settings, declare(tmp_path / "d", other=""))
    assert (problem.severity, problem.message) == ("warning", "acme is placed and not declared")


def test_declarations_are_read_for_those_who_are_here(tmp_path: Path) -> None:
    path = declare(tmp_path / "d", acme="plan: no-such-plan\n", other="")
    beside = Placement.model_validate_json(json.dumps(SHARDS))
    here = load_tree(path, here=beside.serves)
    assert (set(here.tenants), here.problems) == ({"other"}, ())
    there = load_tree(path, here=Placement(shard="beta", rest="alpha", shards=beside.shards).serves)
    assert (set(there.tenants), len(there.problems)) == ({"acme"}, 1)
