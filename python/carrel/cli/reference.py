"""The reference page of the command line, made from its commands.

``python -m carrel.cli.reference DIRECTORY`` writes it; a test holds the checked-in page to it.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Final

from carrel.cli.app import build_app
from carrel.cli.options import EVERYWHERE

PAGE: Final = "cli.md"
_HEAD: Final = """# The command line

<!-- Made by `python -m carrel.cli.reference docs/reference`. Edit the commands, not this page. -->

`carrel` asks a running gateway over its control socket, where the caller's uid decides, or over `--url` with an admin
key. `carrel completion bash --install` (zsh, fish) installs a completion script, `carrel man --install` the manual
page.

| exit code | means |
|---|---|
| 0 | done |
| 1 | refused, failed, or something that was checked is not right |
| 2 | wrong usage |
| 3 | the gateway is not reachable |
| 130 | interrupted |

A failure is a sentence on standard error; with `--json` it is `{"error": {"code", "message"}}` there, with the `status`
and `request_id` of a refusal where there was one.

Every command that asks a gateway takes these too; `admin-key`, `gateway`, `completion` and `man` take those that they
list.

"""
_SHARED: Final = f"**{EVERYWHERE.name}**:"
_OWN: Final = ("carrel gateway", "carrel admin-key", "carrel completion", "carrel man")
"""Commands that take only some of what all others do."""


def page() -> str:
    """The page."""
    made = build_app(lambda _: 0).generate_docs(output_format="markdown", recursive=True, heading_level=2)
    lines = list(_usages(made.strip().splitlines()))
    shared = _options(lines, "carrel reconcile")
    rest = "\n".join(_without_shared(lines, shared))
    return _HEAD + "\n".join(shared) + "\n\n" + rest.rstrip() + "\n"


def _options(lines: Sequence[str], command: str) -> list[str]:
    """What ``command``, which has no options of its own, takes as every command does."""
    begin = next(i for i, line in enumerate(lines) if line.lstrip("# ") == command)
    return list(takewhile(bool, lines[lines.index(_SHARED, begin) + 2 :]))


def _without_shared(lines: Iterable[str], shared: Sequence[str]) -> Iterator[str]:
    """``lines`` without what is said once for all; a command's own version of it stays."""
    command, left_out = "", False
    for line in lines:
        if line.startswith("#"):
            command, left_out = line.lstrip("# "), False
        if line == _SHARED:
            left_out = command not in _OWN
            if not left_out:
                yield "**Of what every command takes**:"
            continue
        if not left_out or line not in ("", *shared):
            yield line


def _usages(lines: Iterable[str]) -> Iterator[str]:
    """Usage lines start with the command alone: what this very program was called by is no part of it."""
    command: list[str] = []
    for line in lines:
        if line.startswith("#"):
            command = line.lstrip("# ").split()
        if line.startswith("carrel ") and command[:1] == ["carrel"]:
            rest = line.split()[len(command) :]
            yield " ".join([*command, *dropwhile(lambda word: not (word[0] == "[" or word.isupper()), rest)])
        else:
            yield line


def write(directory: Path) -> None:
    """Write the page into ``directory``."""
    (directory / PAGE).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
