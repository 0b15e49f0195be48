"""The names that a source has, kept for as long as they are right."""

import json
from pathlib import Path

import pytest

from carrel.packages import catalogue
from carrel.packages.protocol import BuildFailed, PackageError


def test_names_are_kept_for_the_state_that_they_are_of(tmp_path: Path) -> None:
    assert catalogue.kept(tmp_path, "a") is None
    catalogue.keep(tmp_path, "a", ("jq", "git"))
    assert catalogue.kept(tmp_path, "a") == ("jq", "git")
    assert catalogue.kept(tmp_path, "b") is None
    catalogue.keep(tmp_path / "none", "a", ("jq",))
    (tmp_path / "catalogue.json").write_text("{")
    assert catalogue.kept(tmp_path, "a") is None


def test_a_list_in_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "packages.json"
    file.write_text(json.dumps({"packages": ["jq"], "groups": {}}))
    assert catalogue.listed(file) == ("jq",)
    file.write_text("{}")
    with pytest.raises(PackageError, match="cannot be read"):
        catalogue.listed(file)


def test_what_cannot_be_a_name_is_none() -> None:
    assert catalogue.understood(b'["jq", "a b", "_x", "3proxy"]') == ("jq", "3proxy")
    with pytest.raises(BuildFailed, match="Nix printed something else"):
        catalogue.understood(b"trace: x")
