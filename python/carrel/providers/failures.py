"""What a vendor's failure becomes: one of ours, with its status, whether to try again, and a message without keys."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from carrel.errors import UpstreamAuth, UpstreamError
from carrel.telemetry import escape_text

MAX_MESSAGE: Final = 500
_RETRYABLE: Final = frozenset({408, 409, 429})
_KEYS: Final = re.compile(
    r"(?i)\b(?:bearer|basic)\s+[^\s\"',]+|\b(?:sk|pk|rk|gsk|xai|key|api|org|proj|tk|ak)[-_][A-Za-z0-9_*.\-]{6,}"
    r"|\b[A-Za-z0-9+/_-]{40,}={0,2}"
)


def clean_message(text: str, *, secret: str = "") -> str:
    """``text`` for whoever asked: no key, nothing that looks like one, no control characters, of bounded length."""
    text = text[: MAX_MESSAGE * 4]
    if secret:
        text = text.replace(secret, "***")
    text = escape_text(_KEYS.sub("***", " ".join(text.split())))
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def is_retryable(status: int) -> bool:
    """Whether an HTTP status may be gone when the same is tried again: 408, 409, 429 and 5xx."""
    return status in _RETRYABLE or status >= 500


def retry_after(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Seconds to wait by ``retry-after-ms`` or ``Retry-After`` (seconds or a date); None where neither is usable."""
    millis = headers.get("retry-after-ms")
    value = headers.get("retry-after")
    try:
        if millis is not None:
            return _bounded(float(millis) / 1000)
        if value is not None and re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
            return _bounded(float(value))
        if value is not None:
            moment = parsedate_to_datetime(value)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return _bounded((moment - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
    return None


def _bounded(seconds: float) -> float | None:
    return min(max(seconds, 0.0), 86_400.0) if seconds == seconds else None  # noqa: PLR0124 - not a number


def message_in(body: object) -> str:
    """The sentence in a vendor's error body, in any of the shapes they have; empty where there is none."""
    if isinstance(body, str):
        return body if not body.lstrip().startswith("<") else ""
    if not isinstance(body, Mapping):
        return ""
    inner: Any = body.get("error", body)
    if isinstance(inner, str):
        return inner
    for holder in (inner, body):
        if isinstance(holder, Mapping):
            for name in ("message", "detail", "error_description"):
                if isinstance(holder.get(name), str):
                    return str(holder[name])
                if isinstance(holder.get(name), list | dict):
                    return str(holder[name])
    return ""


def status_error(
    provider: str, *, status: int, body: object, headers: Mapping[str, str], secret: str, now: datetime
) -> UpstreamError:
    """The error for an answer of ``status``."""
    said = clean_message(message_in(body), secret=secret)
    what = {
        401: f"refused the key that is configured for it ({status})",
        403: f"does not permit this with the configured key ({status})",
        404: f"does not know that model or endpoint ({status})",
        429: "is limiting requests (429)",
    }.get(status, f"answered {status}")
    kind = UpstreamAuth if status in (401, 403) else UpstreamError
    return kind(
        f"Provider {provider!r} {what}" + (f": {said}" if said else "."),
        status=status,
        retryable=is_retryable(status),
        retry_after=retry_after(headers, now=now),
    )


def connection_error(provider: str, *, reason: str) -> UpstreamError:
    """The error for a connection that could not be made or was lost before an answer."""
    return UpstreamError(
        f"Provider {provider!r} could not be reached or closed the connection ({reason}).",
        retryable=True,
        details={"reason": "connection"},
    )
