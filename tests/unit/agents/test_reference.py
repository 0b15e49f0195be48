"""The checked-in page of the tools is the one that they make."""

from pathlib import Path

from carrel.agents.reference import PAGE, page, write
from carrel.agents.tools.toolbox import ALL

REFERENCE = Path(__file__).resolve().parents[3] / "docs" / "reference"


def test_the_page_is_up_to_date(tmp_path: Path) -> None:
    write(tmp_path)
    assert (tmp_path / PAGE).read_text() == (REFERENCE / PAGE).read_text(), (
        "run `python -m carrel.agents.reference docs/reference`"
    )


def test_every_tool_and_argument_is_on_it() -> None:
    text = page()
    for tool in ALL:
        assert f"\n## {tool.name}\n" in text
        for name in tool.spec.parameters["properties"]:
            assert f"| `{name}` |" in text
