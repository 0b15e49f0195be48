"""Where in a request something is, as its caller would write it."""

import re
from typing import Final

_STEP: Final = re.compile(r"[a-z_0-9]+")
_KINDS: Final = frozenset({"str", "int", "float", "bool", "dict", "tuple"})


def place_of(location: tuple[int | str, ...]) -> str | None:
    """A pydantic location without the names of union members, as `messages[0].content`."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif _STEP.fullmatch(step) and step not in _KINDS:
            path += f".{step}" if path else step
    return path or None
