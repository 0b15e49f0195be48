"""What differs between two JSON documents, key by key, with nothing secret in it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from carrel.declare.problems import Path, dotted
from carrel.declare.suspects import looks_secret
from carrel.telemetry import escape_text

_MAX_SHOWN: Final = 120
_ABSENT: Final = "(default)"


@dataclass(frozen=True, slots=True)
class Change:
    """One key that differs. ``old`` and ``new`` are short texts to show, never to act on."""

    path: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.path}: {self.old} -> {self.new}"


def changes(old: Mapping[str, Any], new: Mapping[str, Any], path: Path = ()) -> Iterator[Change]:
    """The keys that differ, in the order of ``new``, what is gone last."""
    for key in [*new, *(key for key in old if key not in new)]:
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if all(value is None or isinstance(value, Mapping) for value in (before, after)):
            yield from _below(before, after, (*path, key))
        else:
            yield Change(dotted((*path, key)), show(before), show(after))


def _below(before: Any, after: Any, path: Path) -> Iterator[Change]:
    found = list(changes(before or {}, after or {}, path))
    yield from found
    if not found:
        yield Change(dotted(path), show(before), show(after))


def show(value: Any) -> str:
    """``value`` on one line, short, and masked where it looks like a secret."""
    match value:
        case None:
            return _ABSENT
        case bool():
            return "true" if value else "false"
        case str():
            if looks_secret(value):
                return "***"
            text = escape_text(value)
            return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}… ({len(value)} characters)"
        case list() | tuple():
            text = f"[{', '.join(show(item) for item in value[:20])}]"
            return text if len(value) <= 20 else f"{text[:-1]}, and {len(value) - 20} more]"
        case Mapping():
            return "{" + ", ".join(f"{key}: {show(item)}" for key, item in list(value.items())[:20]) + "}"
        case _:
            return str(value)
