"""Every event that the gateway tells is of a known kind, and the page on them has each."""

import ast
import re
from pathlib import Path

from carrel.wire.events import KINDS

REPOSITORY = Path(__file__).resolve().parents[3]


def told() -> set[str]:
    """The kinds that are published by name; where a name is made, its beginning and an asterisk."""
    found: set[str] = set()
    for path in (REPOSITORY / "python" / "carrel").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "publish"):
                continue
            kind = node.args[1] if len(node.args) > 1 else None
            if isinstance(kind, ast.Constant):
                found.add(str(kind.value))
            elif isinstance(kind, ast.JoinedStr) and isinstance(kind.values[0], ast.Constant):
                found.add(f"{kind.values[0].value!s}*")
    return found


def test_what_is_told_is_known() -> None:
    found = told()
    assert len(found) > 15
    for kind in found:
        assert any(one.startswith(kind[:-1]) if kind.endswith("*") else one == kind for one in KINDS), kind
    assert len(set(KINDS)) == len(KINDS)


def test_the_page_has_every_kind() -> None:
    page = (REPOSITORY / "docs" / "howto" / "websocket.md").read_text(encoding="utf-8")
    said: set[str] = set()
    for line in page.splitlines():
        if not line.startswith("| `"):
            continue
        names = re.findall(r"`([a-z.]+)`", line.split("|")[1])
        first = names[0] if names else ""
        room = first.partition(".")[0]
        said |= {f"{room}{name}" if name.startswith(".") else name for name in names}
    assert set(KINDS) <= said
