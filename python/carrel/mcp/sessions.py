"""Session ids as callers have them: the server's own, bound to whose session it is.

Nothing is kept: an id says itself whether it was given to that tenant, member and server, by a mark that only this
machine can make. Another's, and one that was made up, are answered alike: as sessions that are over.
"""

import hashlib
import hmac
import re
from typing import Final

from carrel.errors import NotFound, UpstreamError
from carrel.tenancy.handle import Tenant

_OF_SERVER: Final = re.compile(r"[!-~]{1,256}")
_MARK: Final = 32


class SessionIds:
    """Makes and reads them. ``key`` is a secret of the machine's."""

    def __init__(self, key: bytes) -> None:
        self._key = hmac.new(key, b"mcp sessions", hashlib.sha256).digest()

    def given(self, tenant: Tenant, server: str, theirs: str) -> str:
        """The id that the caller gets for the server's ``theirs``; raises UpstreamError."""
        if not _OF_SERVER.fullmatch(theirs):
            raise UpstreamError("The MCP server gave a session id that is none: 1 to 256 visible characters.")
        return self._mark(tenant, server, theirs) + theirs

    def theirs(self, tenant: Tenant, server: str, given: str) -> str:
        """The server's id in ``given``; raises NotFound where it is not this caller's."""
        theirs = given[_MARK:]
        mark = self._mark(tenant, server, theirs).encode()
        good = hmac.compare_digest(mark, given[:_MARK].encode("utf-8", "surrogateescape"))
        if not good or not _OF_SERVER.fullmatch(theirs):
            raise NotFound("There is no such session, or it is over: begin a new one.")
        return theirs

    def _mark(self, tenant: Tenant, server: str, theirs: str) -> str:
        text = "\0".join((tenant.id, tenant.own or "", server, theirs)).encode("utf-8", "surrogateescape")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()[:_MARK]
