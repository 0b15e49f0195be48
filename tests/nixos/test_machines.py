"""The machines that `nix flake check` boots where there are KVM and nixpkgs: what can be seen of them without.

Nodes evaluate and are refused by no assertion; scripts are read as the driver's linter and type checker would begin to,
and ask of a machine only what the driver has.
"""

import ast
import builtins
import json
import subprocess

import pytest

from tests.nixos.evaluated import Nix
from tests.nixos.test_matrix import FAILING

DRIVER = {"start_all", "subtest", "machine", "retry", "driver", "log", "join_all"}
"""Names that a script has from the driver, beside its machines: nixos/lib/test-script-prepend.py of nixpkgs."""
MACHINE = {
    "succeed", "fail", "wait_for_unit", "wait_for_open_port", "wait_until_succeeds", "wait_until_fails", "execute",
    "systemctl", "wait_for_file", "start", "shutdown", "crash", "reboot", "sleep",
}  # fmt: skip
"""What a machine can be asked: nixos/lib/test-driver of nixpkgs."""
SHELL = {"succeed", "fail", "wait_until_succeeds", "wait_until_fails", "execute"}


def nodes(nix: Nix, name: str, read: str) -> dict[str, object]:
    given = '{ self = flake; pkgs = nixpkgs.legacyPackages."x86_64-linux"; }'
    file = f"import {nix.flake}/tests/nixos/machines/{name}.nix"
    every = f"(let made = {file}; in made (builtins.intersectAttrs (builtins.functionArgs made) {given})).nodes"
    done = nix.hosts(every, "one", read)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize(
    ("name", "served"), [("appliance", {"machine"}), ("fleet", {"alpha", "beta"})], ids=["appliance", "fleet"]
)
def test_a_machine_is_right_as_far_as_can_be_seen_without_booting_it(nix: Nix, name: str, served: set[str]) -> None:
    failing = nodes(nix, name, FAILING)
    assert [found for found in failing.values() if found] == []
    services = nodes(nix, name, "builtins.attrNames host.config.systemd.services")
    assert {node for node, units in services.items() if "carrel" in str(units)} == served

    script = nix.evaluate(f"checks.x86_64-linux.machine-{name}.testScript")
    tree = ast.parse(script)
    defined = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=function, args=arguments):
                defined |= {function, *(one.arg for one in arguments.args)}
            case ast.Import(names=names):
                defined |= {one.name for one in names}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert used - defined - DRIVER - set(failing) - set(dir(builtins)) == set()
    asked = [
        (node.attr, node.value.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in {*failing, "machine"}
    ]
    assert {what for what, _ in asked} <= MACHINE, asked


def test_what_a_machine_is_told_is_shell(nix: Nix) -> None:
    script = nix.evaluate("checks.x86_64-linux.machine-appliance.testScript")
    commands = [
        argument.value
        for node in ast.walk(ast.parse(script))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SHELL
        for argument in node.args
        if isinstance(argument, ast.Constant)
    ]
    assert len(commands) > 15
    for command in commands:
        done = subprocess.run(
            ["bash", "-n"], input=str(command), capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, (command, done.stderr)
