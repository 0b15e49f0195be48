"""The ceilings of size, held for every file of ours with no list of exceptions."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CODE = (".py", ".nix", ".ts", ".tsx", ".css", ".sh")
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
FORBIDDEN_NAMES = {"utils", "common", "helpers", "manager", "misc", "util"}


def tracked() -> Iterator[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        path = REPOSITORY / name
        if path.is_file():
            yield path


def test_no_file_is_over_the_ceiling() -> None:
    over = [
        f"{path.relative_to(REPOSITORY)}: {count} lines"
        for path in tracked()
        if path.suffix in CODE and (count := len(path.read_text().splitlines())) > MAX_FILE_LINES
    ]
    assert not over, over


def test_no_function_is_over_the_ceiling() -> None:
    over = []
    for path in tracked():
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    over.append(f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}: {lines} lines")
    assert not over, over


def test_no_file_is_named_for_nothing() -> None:
    vague = [str(p.relative_to(REPOSITORY)) for p in tracked() if p.stem in FORBIDDEN_NAMES]
    assert not vague, vague
