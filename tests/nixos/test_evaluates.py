"""The flake, the module and the example hosts, evaluated by the real Nix against a small stand-in for nixpkgs.

What is seen here is that every output is there and that the options become the unit that they should. That nixpkgs' own
packages build, and that systemd takes the unit, is seen on a real machine.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from carrel.declare.host import read_host
from tests.nixos.evaluated import EXPRESSIONS, REPOSITORY, STUB, Nix

HOSTS = ["fleet-alpha", "fleet-beta", "single-box", "trial"]


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
    assert nix.evaluate("nixosConfigurations", "builtins.attrNames") == HOSTS
    assert set(nix.evaluate("checks.x86_64-linux", "builtins.attrNames")) == {
        "carrel", "trial", "environment", "index", "tenants", "module-matrix", "format", "lint", "types", "docs-drift",
        "tests", "machine-appliance", "machine-fleet", *(f"host-{name}" for name in HOSTS),
    }  # fmt: skip
    assert nix.evaluate("apps.x86_64-linux.vm.program").endswith("/bin/run-carrel-trial-vm")


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


def test_the_manual_and_completions_are_in_the_package(nix: Nix, tmp_path: Path) -> None:
    script = nix.evaluate("packages.x86_64-linux.carrel.arguments.postFixup")
    # What nixpkgs' installShellFiles does, in short.
    functions = """
      put() { mkdir -p "$2" && cp "$1" "$2/$3"; }
      installManPage() { for f; do put "$f" "$out/share/man/man${f##*.}" "$f"; done; }
      installShellCompletion() { for f; do case "$f" in
        *.bash) put "$f" "$out/share/bash-completion/completions" "$f";;
        *.zsh) put "$f" "$out/share/zsh/site-functions" "_${f%.zsh}";;
        *.fish) put "$f" "$out/share/fish/vendor_completions.d" "$f";;
        *) exit 9;;
      esac; done; }
      mkdir -p "$out/bin" && ln -s "$0" "$out/bin/carrel"
    """
    done = subprocess.run(
        ["bash", "-euc", functions + script, str(Path(sys.executable).parent / "carrel")], cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "out": str(tmp_path / "out"), "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    share = tmp_path / "out" / "share"
    assert (share / "man/man1/carrel.1").read_text().startswith(".TH CARREL 1")
    bash = share / "bash-completion/completions/carrel.bash"
    assert subprocess.run(["bash", "-n", str(bash)], check=False, timeout=60).returncode == 0
    assert (share / "zsh/site-functions/_carrel").read_text().startswith("#compdef carrel")
    assert "complete -c carrel" in (share / "fish/vendor_completions.d/carrel.fish").read_text()


def test_an_aiohttp_that_is_too_old_is_replaced(nix: Nix) -> None:
    read = (
        "x: let one = builtins.head x; in { inherit (one) name version env; more = map (y: y.name) one.dependencies; }"
    )
    assert nix.evaluate("packages.x86_64-linux.carrel.arguments.dependencies", read) == {
        "name": "aiohttp", "version": "3.14.5", "more": ["typing-extensions"],
        # With nixpkgs' own it would be built with the system's parser, which is another version's.
        "env": {"AIOHTTP_USE_SYSTEM_DEPS": ""},
    }  # fmt: skip


def test_what_the_lock_has_is_new_enough_for_what_is_replaced() -> None:
    text = (REPOSITORY / "pkgs" / "python.nix").read_text()
    lock = (REPOSITORY / "python" / "requirements.lock").read_text()
    for name, version in re.findall(r'name = "(\w+)";\n    least = "[0-9.]+";\n    version = "([0-9.]+)";', text):
        assert f"\n{name}=={version} " in f"\n{lock}", f"{name} of the package set and of the lock are one version"


def test_a_host_becomes_units(nix: Nix) -> None:
    units = nix.evaluate("nixosConfigurations.single-box.config.systemd", "x: { inherit (x) services sockets slices; }")
    unit, service = units["services"]["carrel"], units["services"]["carrel"]["serviceConfig"]
    assert re.fullmatch(
        r"/nix/store/\S+-carrel/bin/carrel gateway --host /nix/store/\S+-carrel-host.json", service["ExecStart"]
    )
    assert service["LoadCredential"] == [
        f"{name}:/run/keys/{name}" for name in ("anthropic", "carrel-master-key", "openai")
    ]
    assert (service["User"], service["StateDirectory"], service["StateDirectoryMode"]) == ("carrel", "carrel", "0700")
    assert (service["Type"], service["WatchdogSec"], service["RestrictNamespaces"]) == ("notify", 60, True)
    assert service["TimeoutStopSec"] > 120, "what drains is not killed"
    assert unit["stopIfChanged"] is False
    assert unit["environment"]["CARREL_NIXPKGS"].startswith("/")
    listening = units["sockets"]["carrel-127.0.0.1-18789"]
    assert (listening["listenStreams"], listening["aliases"]) == (["127.0.0.1:18789"], ["carrel.socket"])
    assert (listening["socketConfig"]["Service"], unit["requires"][0]) == (
        "carrel.service", "carrel-127.0.0.1-18789.socket",
    )  # fmt: skip
    assert units["slices"]["carrel"]["sliceConfig"]["MemoryMax"] == "80%"

    launcher = units["services"]["carrel-launcher@"]["serviceConfig"]
    assert set(launcher["RestrictNamespaces"]) == {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"}
    assert (launcher["Delegate"], launcher["DelegateSubgroup"]) == ("cpu io memory pids", "gateway")
    assert (launcher["PrivateNetwork"], launcher["MemoryDenyWriteExecute"]) == (True, False)
    assert "LoadCredential" not in launcher
    socket = units["sockets"]["carrel-launcher"]["socketConfig"]
    assert (socket["Accept"], socket["SocketUser"], socket["SocketMode"]) == (True, "carrel", "0600")


def settings_of(nix: Nix, module: str) -> dict[str, Any]:
    """The document that a host with ``module`` gives its gateway."""
    made = nix.host(module, "host.config.services.carrel.settings")
    assert made.returncode == 0, made.stderr
    told: dict[str, Any] = json.loads(made.stdout)
    return told


def test_another_address_is_another_socket(nix: Nix) -> None:
    # What a switch does with units: one that is gone is stopped, one that is new is started, a changed socket is left.
    for listen, name, stream in (
        ("{ port = 80; }", "carrel-127.0.0.1-80", "127.0.0.1:80"),
        ('{ address = "::1"; }', "carrel---1-18789", "[::1]:18789"),
        ('{ address = "fe80::1%eth0"; }', "carrel-fe80--1-eth0-18789", "[fe80::1%%eth0]:18789"),
    ):
        made = nix.host(
            f"{{ services.carrel = {{ enable = true; listen = {listen}; }}; }}", "host.config.systemd.sockets"
        )
        assert made.returncode == 0, made.stderr
        sockets = json.loads(made.stdout)
        assert set(sockets) == {name, "carrel-launcher"}
        assert sockets[name]["listenStreams"] == [stream]


def test_every_option_ends_in_the_settings_and_the_gateway_takes_them(nix: Nix, tmp_path: Path) -> None:
    told = settings_of(
        nix,
        """{ services.carrel = {
          enable = true; tenantsDir = "/srv/t"; stateDir = "/data/carrel"; requireClosure = false; drainSeconds = 5;
          listen = { address = "::1"; port = 9; }; secrets.a.file = "/run/a"; settings.log.level = "debug";
          shards.x = { url = "http://10.0.0.1:1"; tenants = [ "acme" ]; }; shard = { name = "x"; rest = "x"; };
          tls = { enable = true; domain = "agents.example.org"; };
        }; }""",
    )
    assert told == {
        "tenants_dir": "/srv/t", "state_dir": "/data/carrel", "require_closure": False, "drain_seconds": 5,
        "listen": {"address": "::1", "port": 9, "names": ["agents.example.org"]}, "secrets": ["a"],
        "log": {"level": "debug", "json_lines": True}, "launcher": "/run/carrel-launcher.sock",
        "placement": {"shard": "x", "rest": "x", "shards": {"x": {"url": "http://10.0.0.1:1", "tenants": ["acme"]}}},
    }  # fmt: skip
    file = tmp_path / "host.json"
    file.write_text(json.dumps(told))
    assert read_host(file).listen.port == 9


def test_settings_win_over_options_and_may_say_what_has_none(nix: Nix) -> None:
    told = settings_of(
        nix, "{ services.carrel = { enable = true; settings = { drain_seconds = 7; a.b = 1; }; settings.a.c = 2; }; }"
    )
    assert (told["drain_seconds"], told["a"]) == (7, {"b": 1, "c": 2})


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


def test_a_warning_is_no_refusal(nix: Nix) -> None:
    open_ = '{ services.carrel = { enable = true; openFirewall = true; listen.address = "0.0.0.0"; }; }'
    assert "a proxy of your own" in nix.host(open_, "host.config.warnings").stdout
    unsigned = '{ services.carrel = { enable = true; git.pull.url = "https://forge.example.org/t.git"; }; }'
    assert "decides what runs here" in nix.host(unsigned, "host.config.warnings").stdout


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
