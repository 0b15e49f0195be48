"""`carrel man`: the manual page, made from the same commands as the reference page.

The format is man(7), of which only what every formatter knows is used: TH, SH, SS, TP, PP, B, nf and fi.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from carrel import __version__
from carrel.cli import screen
from carrel.cli.failures import DONE
from carrel.cli.installed import install
from carrel.cli.options import Json

PLACE: Final = Path("man/man1/carrel.1")
"""Where it is found, beneath a data directory: `man` looks beside the directories of PATH, and so in ~/.local/share."""
_CODE: Final = re.compile(r"\x60([^\x60]+)\x60")
_STRONG: Final = re.compile(r"\*\*([^*]+)\*\*")
_EMPHASIS: Final = re.compile(r"(?<!\*)\*([^*]+)\*(?!\*)")
_LINK: Final = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_BULLET: Final = re.compile(r"\s*[*-] (.*)")


def manual_command(page: Callable[[], str]) -> Callable[..., int]:
    """The command that shows the manual made of ``page``, which gives the reference page's text."""

    def man(
        *,
        install_it: Annotated[
            bool,
            Parameter(name="--install", negative=(), show_default=False, help="Put it where `man carrel` finds it."),
        ] = False,
        json: Json = False,
    ) -> int:
        """Print the manual page, as `carrel man | man -l -` shows it."""
        text = manual(page())
        if install_it:
            path = install(data_directory() / PLACE, text)
            told = {"path": str(path)}
            if json:
                screen.show_json(told)
            else:
                screen.say(f"{path} is written: `man carrel` shows it.")
        elif json:
            screen.show_json({"manual": text})
        else:
            sys.stdout.write(text)
        return DONE

    return man


def data_directory() -> Path:
    """Where a person's own data is: `${XDG_DATA_HOME:-~/.local/share}`."""
    named = os.environ.get("XDG_DATA_HOME", "")
    return Path(named) if named.startswith("/") else Path.home() / ".local" / "share"


def manual(page: str) -> str:
    """The manual page made of the reference page ``page``."""
    return "\n".join(_lines(page)) + "\n"


def _lines(page: str) -> Iterator[str]:
    yield f'.TH CARREL 1 "" "carrel {__version__}" "User Commands"'
    yield ".SH NAME"
    yield "carrel \\- run and look after a gateway for AI agents"
    yield ".SH DESCRIPTION"
    table: list[str] = []
    for line in page.splitlines():
        if line.startswith("|"):
            table.append(line)
            continue
        yield from _table(table)
        table = []
        yield from _line(line)
    yield from _table(table)


def _line(line: str) -> Iterator[str]:
    bullet = _BULLET.fullmatch(line)
    if not line.strip():
        yield ".PP"
    elif line.startswith(("<!--", "# ")) or line.lstrip().startswith("- [`"):
        return
    elif line.startswith("#"):
        yield f"{'.SH' if line.startswith('## ') else '.SS'} {_text(line.lstrip('# '))}"
    elif bullet is not None:
        term, colon, rest = bullet[1].partition(": ")
        yield ".TP"
        yield _text(term)
        if colon:
            yield _text(rest)
    elif line.startswith("```"):
        return
    else:
        yield _text(line)


def _table(rows: list[str]) -> Iterator[str]:
    """A table as a list: what is in its first column, and beneath it the rest."""
    for row in rows[2:]:
        first, *rest = (cell.strip() for cell in row.strip("|").split("|"))
        yield ".TP"
        yield f"\\fB{_escaped(first)}\\fR"
        yield _text(" ".join(rest))


def _text(text: str) -> str:
    """A line of text: what is code or strong is bold, and nothing in it is a request."""
    plain = _LINK.sub(r"\1", text.strip())
    made = _escaped(plain)
    made = _CODE.sub(r"\\fB\1\\fR", made)
    made = _STRONG.sub(r"\\fB\1\\fR", made)
    made = _EMPHASIS.sub(r"\\fI\1\\fR", made)
    return f"\\&{made}" if made.startswith((".", "'")) else made


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")
