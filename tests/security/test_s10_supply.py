"""Security 10.2: what is installed is what was locked, and nothing of a tenant's is ever code of the gateway's."""

import ast
import re
from pathlib import Path

import pytest

from carrel.agents.tools.toolbox import ALL

REPOSITORY = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")
CODE = sorted((REPOSITORY / "python" / "carrel").rglob("*.py"))
LOADERS = {"exec", "eval", "compile", "__import__"}
MODULES = {"importlib", "runpy", "pickle", "marshal", "shelve", "imp"}


@pytest.mark.parametrize("name", LOCKS)
def test_S10_02_every_dependency_is_locked_to_its_hashes(name: str) -> None:
    text = (REPOSITORY / "python" / name).read_text(encoding="utf-8")
    entries = re.findall(r"^([A-Za-z0-9._-]+)==([^ \\]+)(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(entries) > 20
    unlocked = [package for package, _, rest in entries if "--hash=sha256:" not in rest]
    assert unlocked == []
    assert not re.search(r"https?://|--(extra-)?index-url|@ ", text), "no address, and nothing but pinned versions"


def test_S10_02_what_is_installed_is_asked_for_its_hash() -> None:
    recipe = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert recipe.count("pip install") == recipe.count("PIP := $(PY) -m pip install ") == 1
    installs = [line for line in recipe.splitlines() if "$(PIP)" in line]
    assert installs
    for line in installs:
        assert "--require-hashes" in line or ("--no-deps" in line and "--no-index" in line), line


def test_S10_02_the_gateway_loads_no_code_by_a_name_that_it_was_given() -> None:
    found = []
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in LOADERS:
                found.append(f"{path.name}:{node.lineno} {node.func.id}")
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name} imports {name}" for name in names if name.split(".")[0] in MODULES]
    assert found == []
    assert ALL, "tools are listed in the code, and found nowhere else"
