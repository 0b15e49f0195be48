"""Identifiers, parsed once at the edge they come in by and trusted ever after."""

import os
import re
from typing import Final, NewType

from carrel.errors import InvalidRequest
from carrel.secrets import masked

TENANT_ID_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,31}$"
SESSION_ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
REQUEST_ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

TenantId = NewType("TenantId", str)
SessionId = NewType("SessionId", str)
RequestId = NewType("RequestId", str)

_TENANT = re.compile(TENANT_ID_PATTERN[1:-1])
_SESSION = re.compile(SESSION_ID_PATTERN[1:-1])
_REQUEST = re.compile(REQUEST_ID_PATTERN[1:-1])
_AT_ONCE: Final = 32


def parse_tenant_id(text: str) -> TenantId:
    """The tenant id in ``text``; raises InvalidRequest where it is not one."""
    if not _TENANT.fullmatch(text):
        raise InvalidRequest(
            f"{text[:64]!r} is not a tenant id: 1 to 32 of a-z, 0-9, '_' and '-', starting with a letter or digit.",
            param="tenant",
        )
    return TenantId(text)


def parse_session_id(text: str) -> SessionId:
    """The session id in ``text``; raises InvalidRequest where it is not one."""
    if not _SESSION.fullmatch(text):
        raise InvalidRequest(
            "A session id is 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-', starting with a letter or digit.",
            param="session",
        )
    return SessionId(text)


def request_id_from(text: str | None) -> RequestId:
    """The caller's request id where it is a well-formed one, else a new one: a token is none, for ids are shown."""
    if text is not None and _REQUEST.fullmatch(text) and masked(text) == text:
        return RequestId(text)
    return new_request_id()


def new_request_id() -> RequestId:
    """A new request id: ``req_`` and 24 hex digits."""
    return RequestId(f"req_{os.urandom(12).hex()}")


class RequestIds:
    """Request ids for who needs one with every call: as random as others, their randomness fetched for many at once."""

    def __init__(self) -> None:
        self._digits = ""

    def of(self, text: str) -> RequestId:
        """The caller's id where ``text`` is a well-formed one, else a new one."""
        if text and _REQUEST.fullmatch(text) and masked(text) == text:
            return RequestId(text)
        if not self._digits:
            self._digits = os.urandom(12 * _AT_ONCE).hex()
        digits, self._digits = self._digits[:24], self._digits[24:]
        return RequestId(f"req_{digits}")


def new_session_id() -> SessionId:
    """A new session id: ``s_`` and 24 hex digits."""
    return SessionId(f"s_{os.urandom(12).hex()}")
