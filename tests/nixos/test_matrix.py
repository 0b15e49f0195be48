"""The matrix of hosts: against the stand-in for nixpkgs, and against nixpkgs' own `lib` where a path to it is given."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrel.declare.host import read_host
from tests.nixos.evaluated import Nix, evaluation

LIB = "CARREL_NIXPKGS_LIB"
"""Names a checkout of nixpkgs' `lib`, which is too large to be a part of this."""
FAILING = "map (a: a.message) (builtins.filter (a: !a.assertion) host.config.assertions)"


@pytest.fixture(scope="module", params=["stand-in", "lib"])
def matrix(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nix]:
    lib = os.environ.get(LIB)
    if request.param == "lib" and not lib:
        pytest.skip(f"nixpkgs' own lib is not at hand: set {LIB} to its path")
    with evaluation(tmp_path_factory.mktemp("nix"), Path(lib) if lib and request.param == "lib" else None) as made:
        yield made


def of_all(nix: Nix, kind: str, module: str, read: str) -> dict[str, Any]:
    """``read`` of each host of one kind in the matrix, by its name."""
    done = nix.hosts(f"(import {nix.flake}/tests/nixos/matrix.nix).{kind}", module, read)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_what_is_right_is_refused_by_nothing(matrix: Nix) -> None:
    assert {name: found for name, found in of_all(matrix, "right", "one", FAILING).items() if found} == {}


def test_the_settings_of_all_are_ones_that_the_gateway_takes(matrix: Nix, tmp_path: Path) -> None:
    read = "if host.config.services.carrel.enable then host.config.services.carrel.settings else null"
    taken = 0
    for name, settings in of_all(matrix, "right", "one", read).items():
        if settings is not None:
            file = tmp_path / f"{name}.json"
            file.write_text(json.dumps(settings))
            assert read_host(file).tenants_dir == settings["tenants_dir"]
            taken += 1
    assert taken > 10


def test_all_that_is_right_becomes_units(matrix: Nix) -> None:
    for name, systemd in of_all(matrix, "right", "one", "host.config.systemd").items():
        assert ("carrel" in (systemd or {}).get("services", {})) == (name != "off"), name


def test_what_cannot_be_right_is_told_with_its_mend(matrix: Nix) -> None:
    said = of_all(matrix, "refused", "one.module", FAILING)
    wanted = of_all(matrix, "refused", "{ }", "one.says")
    for name, words in wanted.items():
        assert any(words in message for message in said[name]), (name, said[name])


def test_a_wrong_type_is_no_value(matrix: Nix) -> None:
    looked_at = "{ inherit (host.config.services.carrel) settings shards tls backup; }"
    read = f"(builtins.tryEval (builtins.deepSeq {looked_at} true)).success"
    names = of_all(matrix, "untyped", "{ }", "true")
    for name in names:
        done = matrix.host(f"(import {matrix.flake}/tests/nixos/matrix.nix).untyped.{name}", read)
        assert done.returncode != 0 or done.stdout.strip() == "false", name
