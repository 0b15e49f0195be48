"""A bad setting fails the build of the system: the real Nix builds the document, and `carrel check` judges it."""

import site
import sys
from pathlib import Path

import pytest

from tests.fakes.gateway_process import CARREL
from tests.nixos.evaluated import REPOSITORY, Nix

PACKAGE = f'package = {{ type = "derivation"; name = "carrel"; outPath = "{CARREL.parents[1]}"; }};'


def build(nix: Nix, settings: str, read: str = "host.config.services.carrel.hostFile") -> tuple[int, str]:
    """How building the document of a host with ``settings`` ends, and what is said."""
    inside = {"/bin", "/lib", "/lib64", "/usr", sys.base_prefix, str(CARREL.parents[1]), str(REPOSITORY / "python")}
    inside |= {site.getsitepackages()[0]}
    words = ("--option", "sandbox", "true", "--option", "sandbox-paths", " ".join(sorted(inside)))
    module = f"{{ services.carrel = {{ enable = true; {PACKAGE} {settings} }}; }}"
    done = nix.built(module, read, *words)
    if "cloning builder process" in done.stderr or "unable to start build process" in done.stderr:
        pytest.skip(f"Nix can make no sandbox here: {done.stderr.strip()[-200:]}")
    return done.returncode, done.stderr


def test_a_good_document_is_built(nix: Nix) -> None:
    code, said = build(nix, "settings.drain_seconds = 9;")
    assert code == 0, said


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("settings.drain_second = 9;", "drain_second: unknown key; did you mean drain_seconds?"),
        ('settings.log.colour = "red";', "log.colour: unknown key"),
        ("settings.drain_seconds = 0.1;", "drain_seconds: "),
        ('settings.placement = { shard = "a"; rest = "b"; shards.a.url = "http://x"; };', "placement.rest: not one of"),
    ],
)
def test_a_bad_one_is_not(nix: Nix, settings: str, says: str) -> None:
    code, said = build(nix, settings)
    assert code != 0
    assert says in said


def test_declarations_of_the_configuration_are_judged_with_it(nix: Nix, tmp_path: Path) -> None:
    assert build(nix, f"tenantsDir = {nix.flake}/tenants.d;")[0] == 0
    broken = tmp_path / "tenants.d"
    broken.mkdir()
    for path in (nix.flake / "tenants.d").iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "acme.yaml").write_text("plan: strter\n")
    code, said = build(nix, f"tenantsDir = {broken};")
    assert code != 0
    assert "plan: _plans.yaml has no such plan, found 'strter'; did you mean starter?" in said


def test_a_secret_that_declarations_want_must_be_given(nix: Nix, tmp_path: Path) -> None:
    declared = tmp_path / "tenants.d"
    declared.mkdir()
    (declared / "_gateway.yaml").write_text("providers: {claude: {kind: anthropic, api_key: {secret: anthropic}}}\n")
    code, said = build(nix, f"tenantsDir = {declared};")
    assert code != 0
    assert "set `services.carrel.secrets.anthropic.file`" in said
    assert build(nix, f'tenantsDir = {declared}; secrets.anthropic.file = "/run/keys/a";')[0] == 0
