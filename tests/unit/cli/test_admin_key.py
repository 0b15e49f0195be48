"""Making an admin key, and that a gateway's declarations take what is shown for it."""

import hashlib
from pathlib import Path

import pytest

from carrel.declare.load import load_tree
from tests.unit.cli.conftest import CommandLine


async def test_what_is_shown_is_taken_by_gateway_yaml(carrel: CommandLine, tmp_path: Path) -> None:
    done = await carrel(
        "admin-key", "shop", "--scope", "tenants:write", "--scope", "read", "--tenant", "shop-*", "--expires", "90d"
    )
    key, line = done.out.splitlines()
    assert done.code == 0
    assert key.startswith("ak_shop_")
    assert "admin_keys" in done.err
    (tmp_path / "_gateway.yaml").write_text(f"admin_keys:\n{line}\n")
    tree = load_tree(tmp_path)
    assert tree.errors == ()
    assert tree.operators is not None
    [declared] = tree.operators.gateway.admin_keys
    assert declared.sha256 == hashlib.sha256(key.encode()).hexdigest()
    assert (declared.scopes, declared.tenants) == (("tenants:write", "read"), ("shop-*",))
    assert declared.expires is not None


async def test_two_keys_differ_and_json_has_both_parts(carrel: CommandLine) -> None:
    first, second = [(await carrel("admin-key", "ops", "--json")).json() for _ in range(2)]
    assert first["key"] != second["key"]
    assert first["declare"] == {"name": "ops", "sha256": hashlib.sha256(first["key"].encode()).hexdigest()}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("ops", "--scope", "tenants:own"), "'tenants:own' is no scope: there are read, write, act,"),
        (("ops", "--tenant", "*"), "--tenant '*'"),
        (("Ops!",), "NAME 'Ops!'"),
        (("ops", "--expires", "never"), "--expires takes"),
    ],
)
async def test_what_cannot_be_declared_is_wrong_usage(carrel: CommandLine, words: tuple[str, ...], told: str) -> None:
    done = await carrel("admin-key", *words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
