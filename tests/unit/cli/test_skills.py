"""`carrel skills`."""

import io
from pathlib import Path

import pytest

from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine

TENANT = ("--tenant", "acme")
SKILL = "---\nname: digest\ndescription: {}\nrequires:\n  bins: [jq]\n---\nRead, then say it in a line.\n"


async def test_a_skill_from_its_beginning_to_its_end(
    carrel: CommandLine, edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "has no skill" in (await carrel("skills", "list", *TENANT)).err
    (tmp_path / "digest").mkdir()
    (tmp_path / "digest" / "SKILL.md").write_text(SKILL.format("Sums up."))
    made = await carrel("skills", "install", str(tmp_path / "digest"), *TENANT)
    assert (made.code, made.out) == (0, "digest: Sums up.\n"), made.err
    assert "No agent has it yet" in made.err
    assert "needs jq" in made.err
    assert (await carrel("skills", "list", *TENANT)).out.splitlines()[1].split()[:2] == ["digest", "yes"]
    (tmp_path / "new.md").write_text(SKILL.format("Says it."))
    changed = await carrel(
        "skills", "update", "digest", "--file", str(tmp_path / "new.md"), "--disable", *TENANT, "--json"
    )
    assert (changed.json()["description"], changed.json()["enabled"]) == ("Says it.", False)
    assert "turned off" in (await carrel("skills", "update", "digest", "--disable", *TENANT)).err
    monkeypatch.setattr("sys.stdin", io.StringIO(SKILL.format("Is read.")))
    assert "Is read." in (await carrel("skills", "update", "digest", "--file", "-", *TENANT)).out
    assert (await carrel("skills", "list", *TENANT, "--json")).json()["skills"][0]["name"] == "digest"
    assert "is removed" in (await carrel("skills", "remove", "digest", *TENANT)).out
    monkeypatch.setattr("sys.stdin", io.StringIO(SKILL.format("Is read.")))
    assert (await carrel("skills", "install", "-", *TENANT)).code == 0
    assert (await carrel("skills", "remove", "digest", *TENANT)).code == 0
    assert (await carrel("skills", "remove", "digest", *TENANT)).code == 1


async def test_what_cannot_be_sent_is_wrong_usage(carrel: CommandLine, edge: Edge, tmp_path: Path) -> None:
    missing = await carrel("skills", "install", str(tmp_path / "none.md"), *TENANT)
    assert (missing.code, "none.md cannot be read" in missing.err) == (2, True)
    (tmp_path / "binary.md").write_bytes(b"\xff\xfe\x00")
    assert (await carrel("skills", "install", str(tmp_path / "binary.md"), *TENANT)).code == 2
    assert (await carrel("skills", "update", "digest", *TENANT)).code == 2
    (tmp_path / "none.md").write_text("no head")
    refused = await carrel("skills", "install", str(tmp_path / "none.md"), *TENANT)
    assert (refused.code, refused.out) == (1, "")
