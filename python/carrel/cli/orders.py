"""What a command asks for, made from its words; what cannot be asked for is wrong usage before anything is sent."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from carrel.cli.client import path_of
from carrel.cli.failures import WrongUsage
from carrel.errors import InvalidRequest
from carrel.ids import parse_session_id, parse_tenant_id
from carrel.wire.wording import wording

M = TypeVar("M", bound=BaseModel)
_PARSERS: Final[Mapping[str, Callable[[str], str]]] = {"id": parse_tenant_id, "session": parse_session_id}
NONE: Final = "none"
"""The word that takes a value away."""
_UNITS: Final[Mapping[str, int]] = {"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}
_NAMES: Final = {
    "scopes": "--scope", "message": "MESSAGE", "packages": "--package", "memory_bytes": "--memory",
    "source": "--tenant", "place": "--from",
}  # fmt: skip
"""What fields are called in the command's words, where that is not their own name."""


def order(model: type[M], given: Mapping[str, Any]) -> M:
    """``model`` of what was ``given``; raises WrongUsage that names the option."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise WrongUsage(_wrong(error.errors()[0])) from error


def _wrong(error: ErrorDetails) -> str:
    key, found = str(error["loc"][0]) if error["loc"] else "", error["input"]
    if key in _PARSERS:
        try:
            _PARSERS[key](str(found))
        except InvalidRequest as refusal:
            return refusal.message
    name = _NAMES.get(key, f"--{key.replace('_', '-')}")
    context = error.get("ctx", {})
    match error["type"]:
        case "int_parsing" | "int_type" | "int_from_float":
            return f"{name} takes a whole number, not {found!r}."
        case "decimal_parsing" | "decimal_type" | "finite_number":
            return f"{name} takes a number, not {found!r}."
        case "greater_than_equal":
            return f"{name} takes {context['ge']} or more, not {found!r}."
        case "literal_error":
            return f"{name} takes {context['expected']}, not {found!r}."
        case "string_pattern_mismatch":
            return f"{name} takes a name (lower-case letters, digits, `-`, `_`), not {found!r}."
    return f"{name}: {wording(error)}."


def tenant_path(tenant: str, *below: str) -> str:
    """The path of a tenant's, or of something below it; raises WrongUsage where that is no tenant id, or empty."""
    if not all(below):
        raise WrongUsage("An id or a name is missing: an empty one names nothing.")
    try:
        return path_of("tenants", parse_tenant_id(tenant), *below)
    except InvalidRequest as error:
        raise WrongUsage(error.message) from error


def size(text: str) -> str:
    """``text`` in bytes, its unit multiplied out; what is none is told of by who judges the order."""
    number, power = text[:-3].strip(), _UNITS.get(text[-3:])
    return str(int(number) << power) if power is not None and number.isascii() and number.isdigit() else text
