"""The flake, the module and the example hosts, evaluated by the real Nix against a small stand-in for nixpkgs.

What is seen here is that every output is there and that the options become the unit that they should. That nixpkgs' own
packages build, and that systemd takes the unit, is seen on a real machine.
"""

import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrel.cli.app import build_app
from carrel.cli.gateway_options import GatewayOptions

REPOSITORY = Path(__file__).resolve().parents[2]
STUB = Path(__file__).with_name("stub")
PARTS = ("flake.nix", "flake.lock", "modules", "pkgs", "hosts", "tenants.d", "python/pyproject.toml")
EXPRESSIONS = "python/carrel/packages/expressions"


class Nix:
    """The `nix` command on a copy of the flake, with a store and a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.flake = home / "flake"
        for part in (*PARTS, EXPRESSIONS):
            source, target = REPOSITORY / part, self.flake / part
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)

    def __call__(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [
            "nix", "--extra-experimental-features", "nix-command flakes", "--option", "substitute", "false",
            "--option", "substituters", "", *words, "--store", str(self.home / "store"),
        ]  # fmt: skip
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, cwd=self.home,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "USER": "test", "NIX_CONF_DIR": str(self.home)},
        )  # fmt: skip

    def on_flake(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return self(*words, "--override-input", "nixpkgs", f"path:{STUB}", "--no-write-lock-file")

    def evaluate(self, attribute: str, apply: str = "x: x") -> Any:
        done = self.on_flake("eval", "--json", f"path:{self.flake}#{attribute}", "--apply", apply)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def host(self, module: str, read: str) -> "subprocess.CompletedProcess[str]":
        """``read`` of the configuration of a host with ``module`` beside ours."""
        inputs = f'nixpkgs = builtins.getFlake "path:{STUB}"; self = flake // {{ inputs.nixpkgs = nixpkgs; }};'
        flake = f"flake = (import {self.flake}/flake.nix).outputs {{ inherit self nixpkgs; }}"
        modules = f"[ flake.nixosModules.default ({module}) ]"
        made = f'host = nixpkgs.lib.nixosSystem {{ system = "x86_64-linux"; modules = {modules}; }};'
        expression = f"let {inputs} {flake} // {{ outPath = {self.flake}; }}; {made} in {read}"
        return self.on_flake("eval", "--json", "--impure", "--expr", expression)


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nix]:
    home = tmp_path_factory.mktemp("nix")
    yield Nix(home)
    for at, directories, _ in os.walk(home):
        for name in directories:
            if not (Path(at) / name).is_symlink():
                (Path(at) / name).chmod(0o755)
    shutil.rmtree(home)


def refusal(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_every_output_evaluates(nix: Nix) -> None:
    done = nix.on_flake("flake", "check", "--no-build", f"path:{nix.flake}")
    assert done.returncode == 0, done.stderr
    lock = (REPOSITORY / "flake.lock").read_text()
    assert (nix.flake / "flake.lock").read_text() == lock, "the check left the lock alone"


def test_the_outputs_that_are_promised_are_there(nix: Nix) -> None:
    for system in ("x86_64-linux", "aarch64-linux"):
        assert set(nix.evaluate(f"packages.{system}", "builtins.attrNames")) == {
            "carrel",
            "default",
            "environment",
            "index",
            "trial",
        }
        assert {"default", "gateway"} <= set(nix.evaluate(f"apps.{system}", "builtins.attrNames"))
        assert nix.evaluate(f"devShells.{system}", "builtins.attrNames") == ["default"]
        assert nix.evaluate(f"formatter.{system}", "x: x.name")
    assert nix.evaluate("apps.x86_64-linux.gateway.program").endswith("/bin/carrel-trial")
    assert nix.evaluate("nixosModules", "builtins.attrNames") == ["carrel", "default"]
    assert nix.evaluate("nixosConfigurations", "builtins.attrNames") == ["single-box", "trial"]
    assert {"carrel", "tenants", "host-single-box"} <= set(nix.evaluate("checks.x86_64-linux", "builtins.attrNames"))


def test_the_lock_pins_one_revision_of_a_stable_branch() -> None:
    node = json.loads((REPOSITORY / "flake.lock").read_text())["nodes"]["nixpkgs"]
    assert len(node["locked"]["rev"]) == 40
    assert node["locked"]["narHash"].startswith("sha256-")
    assert node["original"]["ref"].startswith("nixos-")


def test_the_package_has_what_pyproject_asks_for(nix: Nix) -> None:
    project = tomllib.loads((REPOSITORY / "python" / "pyproject.toml").read_text())["project"]
    wanted = {word.split(">")[0].split("[")[0] for word in project["dependencies"]}
    got = set(nix.evaluate("packages.x86_64-linux.carrel.arguments.dependencies", "map (x: x.name)"))
    assert got == wanted


def test_an_aiohttp_that_is_too_old_is_replaced(nix: Nix) -> None:
    assert nix.evaluate("packages.x86_64-linux.carrel.arguments.dependencies", "x: (builtins.head x).version") >= "3.14"


def test_a_host_becomes_a_unit(nix: Nix) -> None:
    unit = nix.evaluate("nixosConfigurations.single-box.config.systemd.services.carrel", "x: removeAttrs x [ ]")
    service = unit["serviceConfig"]
    assert "gateway --no-trial --listen 127.0.0.1:18789 --tenants-dir /srv/carrel/tenants.d" in service["ExecStart"]
    assert service["LoadCredential"] == ["anthropic:/run/keys/anthropic", "openai:/run/keys/openai"]
    assert (service["User"], service["StateDirectory"], service["StateDirectoryMode"]) == ("carrel", "carrel", "0700")
    assert set(service["RestrictNamespaces"]) == {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"}
    assert "AF_NETLINK" in service["RestrictAddressFamilies"]
    assert service["CapabilityBoundingSet"] == ""
    assert unit["environment"]["CARREL_NIXPKGS"].startswith("/")
    assert service["MemoryDenyWriteExecute"] is False
    assert (service["Delegate"], service["DelegateSubgroup"]) == ("cpu io memory pids", "gateway")
    assert (service["MemoryMax"], service["OOMPolicy"]) == ("80%", "continue")
    trial = nix.evaluate("nixosConfigurations.trial.config.systemd.services.carrel.serviceConfig.ExecStart")
    assert "gateway --trial " in trial


def test_the_arguments_are_ones_that_the_command_takes(nix: Nix) -> None:
    line = nix.evaluate("nixosConfigurations.single-box.config.systemd.services.carrel.serviceConfig.ExecStart")
    words = line.split()[2:]
    seen: list[GatewayOptions] = []

    def run(options: GatewayOptions) -> int:
        seen.append(options)
        return 0

    command, bound, _ = build_app(run).parse_args(["gateway", *words], exit_on_error=False, print_error=False)
    command(*bound.args, **bound.kwargs)
    assert (seen[0].trial, seen[0].port, seen[0].log_json) == (False, 18789, True)


def test_S3_08_the_kernel_is_hardened_and_each_switch_has_its_option(nix: Nix) -> None:
    sysctl = nix.evaluate("nixosConfigurations.single-box.config.boot.kernel.sysctl")
    assert sysctl == {
        "kernel.io_uring_disabled": 2, "vm.unprivileged_userfaultfd": 0, "dev.tty.legacy_tiocsti": 0,
        "kernel.yama.ptrace_scope": 2, "kernel.kptr_restrict": 2,
    }  # fmt: skip
    modules = nix.evaluate("nixosConfigurations.single-box.config.boot.blacklistedKernelModules")
    assert {"algif_aead", "rxrpc", "esp4"} <= set(modules)
    off = nix.host(
        "{ services.carrel = { enable = true; hardening.ioUring = false; }; }", "host.config.boot.kernel.sysctl"
    )
    assert off.returncode == 0, off.stderr
    assert "kernel.io_uring_disabled" not in json.loads(off.stdout)


def test_packages_of_a_host_are_an_index_in_etc(nix: Nix) -> None:
    packages = """
      packages.names = [ "jq" ]; packages.sets.more = [ "git" "jq" ]; packages.own.mytool = pkgs.ripgrep;
      packages.environment.mytool.MYTOOL_HOME = "${pkgs.ripgrep}/share";"""
    module = f"{{ pkgs, ... }}: {{ services.carrel = {{ enable = true; {packages} }}; }}"
    made = nix.host(module, 'host.config.environment.etc."carrel/packages.json".source.heads')
    assert made.returncode == 0, made.stderr
    heads = [json.loads("{" + line + "]}}") for line in json.loads(made.stdout).splitlines()]
    told = {name: about for head in heads for name, about in head.items()}
    assert {"jq", "git", "mytool", "bash", "bashInteractive", "coreutils", "cacert"} <= set(told)
    assert told["mytool"]["path"].endswith("-ripgrep")
    assert told["mytool"]["environment"]["MYTOOL_HOME"].endswith("-ripgrep/share")
    assert told["cacert"]["environment"]["SSL_CERT_FILE"].endswith("-cacert/etc/ssl/certs/ca-bundle.crt")
    none = nix.host("{ services.carrel.enable = true; }", 'host.config.environment ? etc."carrel/packages.json"')
    assert json.loads(none.stdout) is False


def test_a_package_that_nixpkgs_lacks_is_told_at_switch(nix: Nix) -> None:
    failing = "map (a: a.message) (builtins.filter (a: !a.assertion) host.config.assertions)"
    wrong = nix.host('{ services.carrel = { enable = true; packages.names = [ "jq" "jqq" ]; }; }', failing)
    assert json.loads(wrong.stdout) == ["services.carrel.packages: nixpkgs has no jqq."]
    fine = nix.host('{ services.carrel = { enable = true; packages.names = [ "jq" "bash" ]; }; }', failing)
    assert json.loads(fine.stdout) == []


def test_runtimes_of_modes_are_on_the_gateways_path(nix: Nix) -> None:
    module = "{ pkgs, ... }: { services.carrel = { enable = true; sandbox.runtimes = [ pkgs.jq pkgs.ripgrep ]; }; }"
    made = nix.host(module, "map toString host.config.systemd.services.carrel.path")
    assert made.returncode == 0, made.stderr
    assert [path.rsplit("-", 1)[1] for path in json.loads(made.stdout)] == ["jq", "ripgrep"]
    none = nix.host("{ services.carrel.enable = true; }", "host.config.systemd.services.carrel ? path")
    assert json.loads(none.stdout) is False


def test_a_wrong_value_and_an_unknown_option_are_refused(nix: Nix) -> None:
    read = "host.config.systemd.services.carrel.serviceConfig.ExecStart"
    wrong = nix.host("{ services.carrel = { enable = true; listen.port = 99999; }; }", read)
    assert "services.carrel.listen.port' is not of type port" in refusal(wrong)
    unknown = nix.host('{ services.carrel = { enable = true; settings.logLevl = "info"; }; }', read)
    assert "logLevl' does not exist" in refusal(unknown)
    right = nix.host('{ services.carrel = { enable = true; listen.address = "::1"; }; }', read)
    assert "--listen '[::1]:18789'" in json.loads(right.stdout)


def test_what_cannot_be_right_is_asserted(nix: Nix) -> None:
    failing = "map (a: a.message) (builtins.filter (a: !a.assertion) host.config.assertions)"
    root = nix.host('{ services.carrel = { enable = true; user = "root"; }; }', failing)
    assert "never started by root" in root.stdout
    fine = nix.host("{ services.carrel = { enable = true; }; }", failing)
    assert json.loads(fine.stdout) == []
    open_ = '{ services.carrel = { enable = true; openFirewall = true; listen.address = "0.0.0.0"; }; }'
    assert "reverse proxy" in nix.host(open_, "host.config.warnings").stdout


def test_every_option_is_described_and_has_an_example(nix: Nix) -> None:
    walk = """
      let
        walk = path: tree: builtins.concatLists (map (name:
          let value = tree.${name}; here = path ++ [ name ]; in
          if (value._type or "") == "option" then
            (if value ? description && value ? example then [ ] else [ (builtins.concatStringsSep "." here) ])
          else walk here value) (builtins.attrNames tree));
      in walk [ ] host.options.services.carrel"""
    done = nix.host("{ services.carrel.enable = true; }", walk)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_an_expression_of_tenants_packages_finds_names_and_refuses_others(nix: Nix) -> None:
    expression = nix.flake / EXPRESSIONS / "nixpkgs.nix"
    words = ["--json", "--impure", "--expr"]
    given = f'nixpkgs = {STUB}; system = "x86_64-linux";'
    asked = '"[\\"git\\",\\"bash\\"]"'
    good = nix("eval", *words, f"(import {expression} {{ packages = {asked}; {given} }}).drvPath")
    assert good.returncode == 0, good.stderr
    bad = nix("eval", *words, f'(import {expression} {{ packages = "[\\"gti\\"]"; {given} }}).drvPath')
    assert "no package gti" in refusal(bad)
