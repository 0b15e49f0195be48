"""What the repository's text may not hold: paths of one machine, registries' hosts, and unreasoned exceptions."""

import re
from pathlib import Path

from tests.house.test_sizes import REPOSITORY, tracked

TEXT = {".py", ".nix", ".md", ".toml", ".lock", ".yaml", ".yml", ".json", ".sh", ".txt", ""}
HERE = Path(__file__)
# Written in pieces, so that this file does not find itself.
MACHINE = re.compile(r"(?<![A-Za-z0-9_.{}$-])/(?:wor" + r"k|farm|roo" + r"t/\.)(?:/|\b)|\.pye" + r"nv")
REGISTRY = re.compile(r"pypi\.or" + r"g|pythonhosted\.or" + r"g|registry\.npm" + r"js|deb\.debian\.or" + r"g")
BARE = re.compile(r"# noqa\s*$|type: ignore\s*$|except Exception:\s*pass|pragma: no cover")


def offenders(pattern: re.Pattern[str], suffixes: set[str]) -> list[str]:
    found = []
    for path in tracked():
        if path == HERE or path.suffix not in suffixes or path.name == "LICENSE":
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:120]}"
            for number, line in enumerate(text.splitlines(), 1)
            if pattern.search(line)
        ]
    return found


def test_no_path_of_one_machine() -> None:
    assert not offenders(MACHINE, TEXT)


def test_no_registry_host() -> None:
    assert not offenders(REGISTRY, TEXT)


def test_every_exception_says_why() -> None:
    assert not offenders(BARE, {".py"})
