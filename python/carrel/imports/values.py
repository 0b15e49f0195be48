"""JSON as another system wrote it, into values that can be kept here. Pure.

No lone surrogates in texts, which no file here could hold, and no numbers that JSON has not.
"""

import json
import math
from typing import Any


def loads(data: bytes | str) -> Any:
    """The value in ``data``; raises ValueError, also where it is too deep."""
    try:
        found = json.loads(data, parse_constant=_refused, parse_float=_number)
    except RecursionError:
        raise ValueError("it is too deep") from None
    escaped = b"\\ud" in data.lower() if isinstance(data, bytes) else "\\ud" in data.lower()
    return storable(found) if escaped else found


def storable(value: Any) -> Any:
    """``value`` with question marks in the place of lone surrogates."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {storable(key): storable(one) for key, one in value.items()}
    return [storable(one) for one in value] if isinstance(value, list) else value


def _refused(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number
