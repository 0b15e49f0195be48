"""Writes every generated page of docs/reference anew: ``python -m tests.house.generate_docs``, or `make docs`.

Each page has a test in its own room that holds the checked-in text to it.
"""

from pathlib import Path
from typing import Final

from carrel.agents import reference as tools
from carrel.cli import reference as commands
from carrel.declare.schema import KINDS, reference_page, schema_text
from carrel.http import reference as edges

REFERENCE: Final = Path(__file__).resolve().parents[2] / "docs" / "reference"


def write(directory: Path) -> None:
    """Write all pages into ``directory``."""
    (directory / "schema").mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        (directory / "schema" / f"{kind}.json").write_text(schema_text(kind), encoding="utf-8")
    (directory / "tenants.d.md").write_text(reference_page(), encoding="utf-8")
    for room in (tools, edges, commands):
        room.write(directory)


if __name__ == "__main__":
    write(REFERENCE)
