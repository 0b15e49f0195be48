"""Who is logged in with a browser, and the tickets that let a page open a WebSocket.

A session is made of a tenant's token and is good while that is, and no longer than its time. Its cookie is a secret of
its own, kept here by digest. A ticket is good once, for half a minute, and only together with its session's cookie:
whoever reads one elsewhere has nothing. None of it is on disk: after a restart people log in again.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final

from carrel.clock import Clock
from carrel.ids import TenantId

TICKET_SECONDS: Final = 30.0
MOST_SESSIONS: Final = 64
"""Of one tenant; one more takes the place of the oldest."""
MOST_TICKETS: Final = 16
"""Of one session; one more takes the place of the oldest."""
_BITS: Final = 32


@dataclass(eq=False, slots=True)
class BrowserSession:
    """A browser that is logged in with ``credential``, of ``tenant``. ``csrf`` is what its changes carry."""

    tenant: TenantId
    credential: str
    until: float
    csrf: str = field(default_factory=lambda: secrets.token_hex(_BITS))
    ended: bool = False
    tickets: dict[str, float] = field(default_factory=dict)

    def knows(self, csrf: str) -> bool:
        """Whether ``csrf`` is its own."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode("utf-8", "surrogateescape"))


class BrowserSessions:
    """All of them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sessions: dict[str, BrowserSession] = {}

    def begin(self, tenant: TenantId, credential: str, *, seconds: float) -> tuple[str, BrowserSession]:
        """A new session, and the value of its cookie."""
        self._forget_old()
        theirs = [digest for digest, one in self._sessions.items() if one.tenant == tenant]
        for digest in theirs[: max(0, len(theirs) - MOST_SESSIONS + 1)]:
            self._sessions.pop(digest).ended = True
        cookie = secrets.token_hex(_BITS)
        session = BrowserSession(tenant, credential, self._clock.monotonic() + seconds)
        self._sessions[_digest(cookie)] = session
        return cookie, session

    def of(self, cookie: str) -> BrowserSession | None:
        """The session whose cookie this is, None where there is none any more."""
        session = self._sessions.get(_digest(cookie))
        return None if session is None or self.is_over(session) else session

    def is_over(self, session: BrowserSession) -> bool:
        """Whether it was ended, or its time is over."""
        return session.ended or self._clock.monotonic() >= session.until

    def end(self, session: BrowserSession) -> None:
        """Log out: what it opened ends with it."""
        session.ended = True
        self._forget_old()

    def ticket(self, session: BrowserSession) -> str:
        """A new ticket of the session's."""
        now = self._clock.monotonic()
        for digest, until in list(session.tickets.items()):
            if until <= now or len(session.tickets) >= MOST_TICKETS:
                del session.tickets[digest]
        ticket = secrets.token_hex(_BITS)
        session.tickets[_digest(ticket)] = now + TICKET_SECONDS
        return ticket

    def redeem(self, ticket: str, cookie: str) -> BrowserSession | None:
        """The session that ``ticket`` was made for, where ``cookie`` is its own too; the ticket is used up by that."""
        session = self.of(cookie)
        if session is None:
            return None
        until = session.tickets.pop(_digest(ticket), None)
        return session if until is not None and self._clock.monotonic() < until else None

    def _forget_old(self) -> None:
        for digest in [digest for digest, one in self._sessions.items() if self.is_over(one)]:
            del self._sessions[digest]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
