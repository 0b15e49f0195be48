"""A tool call's arguments: from the model's text to checked values, or to a sentence that names the wrong place.

The validator is imported with the first check, which the toolbox makes in a thread.
"""

import json
from typing import TYPE_CHECKING, Any, Final

from carrel.errors import InvalidRequest
from carrel.wire.conversation import ToolSpec

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

MAX_SHOWN: Final = 5
_MAX_MESSAGE: Final = 300


class ArgumentCheck:
    """The arguments of one tool, by its JSON Schema. Making the first one is slow: do it in a thread."""

    def __init__(self, spec: ToolSpec) -> None:
        from jsonschema import Draft202012Validator  # noqa: PLC0415 - see the module's docstring

        Draft202012Validator.check_schema(spec.parameters)
        self._name = spec.name
        self._validator = Draft202012Validator(
            spec.parameters, format_checker=Draft202012Validator.FORMAT_CHECKER
        )  # fmt: skip

    def parse(self, text: str) -> dict[str, Any]:
        """The arguments in ``text``; raises InvalidRequest with every wrong place in its message."""
        arguments = self._json(text)
        errors = sorted(self._validator.iter_errors(arguments), key=lambda error: error.json_path)
        if errors:
            said = "; ".join(_sentence(error) for error in errors[:MAX_SHOWN])
            more = f"; and {len(errors) - MAX_SHOWN} more" if len(errors) > MAX_SHOWN else ""
            raise InvalidRequest(f"The arguments of {self._name} do not fit its schema: {said}{more}.")
        for place, value in arguments.items():
            if isinstance(value, str):
                _require_text(place, value)
        return arguments

    def _json(self, text: str) -> dict[str, Any]:
        try:
            value = json.loads(text.strip() or "{}", parse_constant=_no_constant)
        except json.JSONDecodeError as error:
            raise InvalidRequest(
                f"The arguments of {self._name} are not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
            ) from None
        except (ValueError, RecursionError):
            raise InvalidRequest(f"The arguments of {self._name} are not JSON that can be read.") from None
        if not isinstance(value, dict):
            raise InvalidRequest(f"The arguments of {self._name} must be a JSON object.")
        return value


def _sentence(error: "ValidationError") -> str:
    message = error.message if len(error.message) <= _MAX_MESSAGE else f"{error.message[:_MAX_MESSAGE]}…"
    return f"{error.json_path}: {message}"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _require_text(place: str, value: str) -> None:
    if "\0" in value:
        raise InvalidRequest(f"$.{place}: there is a NUL character in it.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"$.{place}: it is not valid Unicode.") from None
