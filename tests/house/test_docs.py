"""The pages that are generated are all of docs/reference but those that are written by hand."""

from pathlib import Path

from tests.house.generate_docs import REFERENCE, write

BY_HAND = {"demo-provider.md", "nixos-options.md"}
"""And the page that Nix makes, which `tests/nixos/test_options_page.py` holds to the module."""


def test_make_docs_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(REFERENCE): path.read_text() for path in REFERENCE.rglob("*") if path.is_file()}
    assert {name: text for name, text in kept.items() if str(name) not in BY_HAND} == made, "run `make docs`"
