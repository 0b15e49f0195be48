"""What a model refused, in words for whoever wrote the YAML."""

import types
import typing
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from carrel.declare.problems import Finding, Path, nearest, shown

_OLD_WORDS: Final = frozenset(("yes", "no", "on", "off", "y", "n"))
_SHAPES: Final = {
    "dict_type": "a mapping of names is wanted",
    "model_type": "a mapping is wanted",
    "tuple_type": "a list is wanted (`[a, b]`, or one `- item` a line)",
    "list_type": "a list is wanted",
    "float_type": "a number is wanted",
    "decimal_type": "a number is wanted",
    "is_instance_of": "a number is wanted",
    "timezone_aware": "a time with its offset is wanted, as 2027-01-31T00:00:00Z",
    "datetime_type": "a time with its offset is wanted, as 2027-01-31T00:00:00Z",
}
_PATTERNS: Final = {
    r"^[a-z0-9][a-z0-9_-]{0,63}$": "1 to 64 of a-z, 0-9, `_` and `-`, not starting with `_` or `-`",
    r"^[0-9a-f]{64}$": "a SHA-256 in 64 lower-case hex digits",
    r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$": "a model's name: letters, digits and ._:/@+-",
    r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$": "a package's name: letters, digits and ._+-",
    r"^https?://[^\s@]+$": "an http:// or https:// address without a user in it",
    r"^/[^\x00]*$": "a path from the root",
    r"^[A-Za-z0-9._-]{1,253}$": "a host name",
    r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$": "a secret's name: letters, digits and _.-, starting with a letter",
}


def findings_of(error: ValidationError, model: type[BaseModel], values: object) -> list[Finding]:
    """The findings in ``error``, which ``model`` raised for ``values``; one for each path."""
    by_path: dict[Path, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False, include_context=True):
        by_path.setdefault(_resolve(detail["loc"], values), []).append(detail)
    return [
        _finding(path, _most_telling(details), model)
        for path, details in by_path.items()
        if not (_is_other_branch(details) and any(len(o) > len(path) and o[: len(path)] == path for o in by_path))
    ]


def _is_other_branch(details: list[ErrorDetails]) -> bool:
    """Whether a mapping was refused only for being no number: the branch that takes mappings says more."""
    numbers = ("int_type", "is_instance_of", "decimal_type", "float_type")
    return all(isinstance(d["input"], dict) and d["type"] in numbers for d in details)


def _resolve(loc: tuple[int | str, ...], values: object) -> Path:
    """``loc`` without the names of a union's branches."""
    path: list[int | str] = []
    at: Any = values
    for position, part in enumerate(loc):
        key: Any = part
        if _has(at, key):
            at = at[key]
            path.append(key)
        elif position == len(loc) - 1 and isinstance(at, dict) and isinstance(part, str) and part.isidentifier():
            path.append(part)  # a required key that is missing, or a branch of a union: `_finding` tells
    return tuple(path)


def _has(values: Any, key: Any) -> bool:
    if isinstance(values, dict):
        return key in values
    return isinstance(values, list | tuple) and isinstance(key, int) and 0 <= key < len(values)


def _most_telling(details: list[ErrorDetails]) -> ErrorDetails:
    """Of a union's refusals, that of the branch which the value was meant for."""
    if len(details) > 1:
        is_map = isinstance(details[0]["input"], dict)
        for detail in details:
            if (detail["type"] in ("model_type", "dict_type")) == is_map:
                return detail
    return details[0]


def _finding(path: Path, detail: ErrorDetails, model: type[BaseModel]) -> Finding:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    at_key = kind == "extra_forbidden" or detail["loc"][-1:] == ("[key]",)
    if kind == "extra_forbidden":
        allowed = tuple(keys_at(model, path[:-1]))
        return Finding(path, "unknown key", allowed=allowed, nearest=nearest(str(path[-1]), allowed), at_key=True)
    if kind == "missing":
        return Finding(path, "the key is required and missing")
    if kind == "literal_error":
        allowed = tuple(word.strip("'") for word in str(context.get("expected", "")).replace(" or ", ", ").split(", "))
        close = nearest(value, allowed) if isinstance(value, str) else None
        return Finding(path, "not one of what is allowed", shown(value), allowed, close)
    if kind == "string_pattern_mismatch":
        pattern = str(context.get("pattern", ""))
        return Finding(path, f"wanted {_PATTERNS.get(pattern, f'text like {pattern}')}", shown(value), at_key=at_key)
    if kind == "model_type" and context.get("class_name") == "SecretRef":
        return Finding(path, "name the secret as `{secret: NAME}`: its value is never written here")
    return Finding(path, _sentence(kind, value, detail["msg"]), shown(value), at_key=at_key)


def _sentence(kind: str, value: object, otherwise: str) -> str:
    if kind == "string_type":
        if isinstance(value, dict | list | tuple):
            return "text is wanted"
        return (
            "text is wanted: give it one, or take the key out" if value is None else "text is wanted: put it in quotes"
        )
    if kind == "bool_type":
        old = isinstance(value, str) and value.lower() in _OLD_WORDS
        return "write `true` or `false` (yes, no, on and off are text)" if old else "`true` or `false` is wanted"
    if kind == "int_type":
        digits = isinstance(value, str) and any(c.isdigit() for c in value)
        return "a whole number is wanted" + (", without quotes, signs, `_` or leading zeros" if digits else "")
    if kind == "value_error" and "isoformat" in otherwise:
        return _SHAPES["datetime_type"]
    lowered = otherwise.removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("Value ")
    return _SHAPES.get(kind, f"must be {lowered}" if otherwise.startswith("Input should be ") else lowered)


def keys_at(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that a mapping at ``path`` may hold, sorted."""
    level: list[Any] = [model]
    for part in path:
        level = [below for annotation in level for below in _below(annotation, part)]
    return sorted({name for annotation in level if _is_model(annotation) for name in annotation.model_fields})


def _below(annotation: Any, part: str | int) -> Iterator[Any]:
    if _is_model(annotation):
        field = annotation.model_fields.get(part) if isinstance(part, str) else None
        if field is not None:
            yield from _branches(field.annotation)
        return
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in (dict, tuple, list) and arguments:
        yield from _branches(arguments[1] if typing.get_origin(annotation) is dict else arguments[0])


def _branches(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _branches(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for branch in typing.get_args(annotation):
            yield from _branches(branch)
    else:
        yield annotation


def _is_model(annotation: Any) -> typing.TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
