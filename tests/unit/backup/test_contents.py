"""The one list of what a tenant's directory holds."""

from pathlib import Path

import pytest

from carrel.backup.contents import CONTENTS, GOES_ON, NOT_KEPT, held, paths


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("config.yaml", "config.yaml"), ("sessions/s_1.jsonl", "sessions/**"),
        ("credentials/vault/KEY.sealed", "credentials/vault/**"), ("sandbox/a/b/c", "sandbox/**"),
        ("devices/voicewake.json", "devices/voicewake.json"),
    ],
)  # fmt: skip
def test_a_file_has_its_line(path: str, line: str) -> None:
    found = held(path)
    assert found is not None
    assert found.path == line


@pytest.mark.parametrize("path", ["config.yaml.bak", "credentials/other.json", "new/state.sqlite", "sessions"])
def test_what_nobody_thought_of_has_none(path: str) -> None:
    assert held(path) is None


def test_what_follows_from_it() -> None:
    assert {"snapshots", "backups.json"} == NOT_KEPT
    assert "credentials/tokens.json" in paths(own="stays", other="left")
    assert "usage/ledger.sqlite" in paths(other="left")
    assert len({one.path for one in CONTENTS}) == len(CONTENTS)
    # What is taken away or carried over is one file each, but for connections, which are judged one by one, ledgers
    # that are named by their content, and what is moved as it is.
    assert {path for path in (*paths(own="stays"), *paths(other="left")) if "*" in path} == {
        "credentials/connections/**", "usage/damaged/**", *(f"{name}/**" for name in GOES_ON)
    }  # fmt: skip
    for one in CONTENTS:
        assert one.why or (one.own, one.other, one.kept) == ("back", "along", True), one.path


def test_the_docs_name_each() -> None:
    page = (Path(__file__).parents[3] / "docs/explanation/backup.md").read_text()
    for one in CONTENTS:
        assert f"| `{one.path.replace('/**', '/')}` | {one.what} |" in page, one.path
