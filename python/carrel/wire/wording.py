"""What a field of a request is refused for, in words for whoever wrote the request."""

from typing import Any, Final

from pydantic_core import ErrorDetails

_WANTED: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_SIZES: Final = {
    "too_short": ("at least", "min_length", "item"),
    "too_long": ("at most", "max_length", "item"),
    "string_too_short": ("at least", "min_length", "character"),
    "string_too_long": ("at most", "max_length", "character"),
}
_KINDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (str, "text"), (bool, "true or false"), ((int, float), "a number"), ((list, tuple), "a list"), (dict, "an object"),
)  # fmt: skip


def wording(problem: ErrorDetails) -> str:
    """One problem of a validation (with its input and context) as words to follow the field's path.

    What was sent is told by its kind alone: it may be a secret.
    """
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "missing":
        return "it is missing"
    if kind == "extra_forbidden":
        return "there is no such field"
    if kind == "finite_number":
        return "a finite number is wanted"
    if kind in _WANTED:
        return f"{_WANTED[kind]} is wanted, not {_kind(problem.get('input'))}"
    if kind == "string_pattern_mismatch":
        return f"text that fits {context.get('pattern')} is wanted"
    if kind in _SIZES and isinstance(context.get(_SIZES[kind][1]), int):
        bound, name, what = _SIZES[kind]
        count = context[name]
        return f"{bound} {count} {what}{'s' * (count != 1)} {'are' if count != 1 else 'is'} wanted"
    told = problem["msg"].removeprefix("Value error, ")
    return f"it must be {told.removeprefix('Input should be ')}" if told.startswith("Input should be ") else told


def _kind(value: Any) -> str:
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "null")
