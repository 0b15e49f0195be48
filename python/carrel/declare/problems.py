"""What is wrong with a declaration: where, what was found, what is allowed, and the nearest name that is."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from carrel.declare.suspects import looks_secret
from carrel.errors import CarrelError
from carrel.telemetry import escape_text

Severity = Literal["error", "warning"]
Path = tuple[str | int, ...]
MAX_SHOWN: Final = 60
_MAX_ALLOWED: Final = 16


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong at a key's path, not yet placed in a file. ``at_key`` points at the key, not at its value."""

    path: Path
    message: str
    found: str | None = None
    allowed: tuple[str, ...] = ()
    nearest: str | None = None
    severity: Severity = "error"
    at_key: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding in its place. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    path: str
    message: str
    found: str | None = None
    allowed: tuple[str, ...] = ()
    nearest: str | None = None
    severity: Severity = "error"

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: "
        text = place + ("warning: " if self.severity == "warning" else "")
        text += f"{self.path}: {self.message}" if self.path else self.message
        if self.found is not None:
            text += f", found {self.found}"
        if self.nearest is not None:
            return f"{text}; did you mean {self.nearest}?"
        if self.allowed:
            more = len(self.allowed) - _MAX_ALLOWED
            shown = ", ".join(self.allowed[:_MAX_ALLOWED]) + (f" and {more} more" if more > 0 else "")
            text += f"; allowed: {shown}"
        return text


class DeclarationInvalid(CarrelError):
    """What is declared cannot be used. ``problems`` are all of them, errors first."""

    code = "declaration_invalid"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.severity, p.file, p.line, p.column)))
        super().__init__(
            "\n".join(str(problem) for problem in self.problems),
            details={"problems": [str(problem) for problem in self.problems]},
        )


def nearest(name: str, names: Collection[str]) -> str | None:
    """The one of ``names`` that ``name`` was most likely meant to be."""
    if len(name) > 200 or not names:
        return None
    import difflib  # noqa: PLC0415 - for what is wrong alone

    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return close[0] if close else None


def shown(value: object) -> str:
    """``value`` for a message: short, on one line, and never a secret."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return "a value that looks like a secret" if looks_secret(value) else repr(_cut(escape_text(value)))
        case list() | tuple():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return f"the number {_cut(str(value))}"


def dotted(path: Path) -> str:
    """``agents.main.tools[2]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_key(part)}" if text else _key(part)
    return text


def _key(name: str) -> str:
    return "***" if looks_secret(name) else _cut(escape_text(name))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
