"""Every fault that the doctor can find says why it matters and what mends it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.cli import findings
from carrel.cli.findings import WHY, Finding, some

ROOM = Path(findings.__file__).parent
PAGE = Path(__file__).resolve().parents[3] / "docs" / "howto" / "doctor.md"


def made() -> Iterator[tuple[str, ast.Call]]:
    """Where each Finding of the doctor's is made."""
    for file in sorted(ROOM.glob("*.py")):
        text = file.read_text()
        if "carrel.cli.findings import" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
                yield f"{file.name}:{node.lineno}", node


def test_every_finding_is_about_something_that_matters_and_has_a_mend() -> None:
    seen = list(made())
    assert len(seen) > 60
    for where, call in seen:
        what, state = call.args[0], call.args[1]
        first = what.values[0] if isinstance(what, ast.JoinedStr) else what
        if isinstance(first, ast.Constant):
            assert Finding(str(first.value).strip(), "ok", "").topic, f"{where}: say in findings.WHY why it matters"
        if not (isinstance(state, ast.Constant) and state.value == "ok"):
            assert len(call.args) == 4, f"{where}: what is not right has a `mend`, with a command where one does it"


def test_every_topic_is_in_the_guide() -> None:
    page = PAGE.read_text()
    assert [name for name in WHY if f"| `{name}" not in page] == [], "docs/howto/doctor.md has a row for each of WHY"


@pytest.mark.parametrize(
    ("what", "topic"),
    [("provider x", "provider"), ("secret of acme", "secret of"), ("user namespaces", "user namespaces"), ("?", "")],
)
def test_a_finding_is_about_the_longest_name_that_it_begins_with(what: str, topic: str) -> None:
    found = Finding(what, "fault", "t", "m")
    assert (found.topic, found.why) == (topic, WHY.get(topic, ""))


def test_of_many_names_a_few_are_shown() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(list("abcdefg")) == "a, b, c, d, e and 2 more"
