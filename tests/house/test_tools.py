"""The import rules, the linter, the formatter and the type checker, as one sees them from the tests."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [
        ("lint-imports", "--no-cache"),
        ("ruff", "check", "--no-cache", "carrel", "../tests"),
        ("ruff", "format", "--no-cache", "--check", "carrel", "../tests"),
        ("mypy",),
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_the_tree_is_clean(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=REPOSITORY / "python", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
