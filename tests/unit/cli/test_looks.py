"""What the rows of the doctor's table share is found once, and only where it is needed."""

from pathlib import Path

import pytest

from carrel.cli import looks
from carrel.cli.failures import GatewayUnreachable
from carrel.cli.findings import Finding


def test_what_a_gateway_says_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrel.cli.looks.shutil.which", lambda _: "/usr/bin/bwrap")
    seen = looks.Seen({"sandbox": "bwrap"}, tmp_path, tmp_path, None)
    assert (seen.serves, seen.sandbox, seen.holds) == (True, None, True)
    assert not looks.Seen({"sandbox": "none, so no tool runs: x"}, tmp_path, tmp_path, None).holds


def test_without_a_gateway_one_sandbox_is_tried_for_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def tried() -> Finding:
        tries.append("once")
        return Finding("sandbox", "fault", "it does not hold")

    monkeypatch.setattr("carrel.cli.machine.tried", tried)
    seen = looks.Seen(GatewayUnreachable("none"), tmp_path, tmp_path / "none", None)
    found = [finding.what for look in looks.LOOKS for finding in look(seen)]
    assert (seen.serves, seen.holds, seen.tree, tries) == (False, False, None, ["once"])
    assert {"kernel", "sandbox", "cgroups", "vault", "declarations"} <= set(found)
    assert "packages" not in found
