"""Browsers' sessions and tickets."""

from carrel.http.browser_sessions import MOST_SESSIONS, MOST_TICKETS, TICKET_SECONDS, BrowserSessions
from carrel.ids import TenantId
from tests.fakes.clock import FakeClock

ACME = TenantId("acme")


def test_a_session_is_known_by_its_cookie_until_its_time_or_its_end() -> None:
    clock = FakeClock()
    sessions = BrowserSessions(clock)
    cookie, session = sessions.begin(ACME, "tk", seconds=60)
    assert sessions.of(cookie) is session
    assert sessions.of(cookie + "x") is None
    assert sessions.of("") is None
    assert session.knows(session.csrf)
    assert not session.knows("")
    clock.advance(60)
    assert sessions.of(cookie) is None
    cookie, session = sessions.begin(ACME, "tk", seconds=60)
    sessions.end(session)
    assert sessions.of(cookie) is None
    assert sessions.is_over(session)


def test_S6_01_a_ticket_is_good_once_for_half_a_minute_and_for_its_own_session() -> None:
    clock = FakeClock()
    sessions = BrowserSessions(clock)
    cookie, session = sessions.begin(ACME, "tk", seconds=600)
    other, _ = sessions.begin(ACME, "tk", seconds=600)
    ticket = sessions.ticket(session)
    assert sessions.redeem(ticket, other) is None
    assert sessions.redeem(ticket, "") is None
    assert sessions.redeem(ticket, cookie) is session
    assert sessions.redeem(ticket, cookie) is None
    late = sessions.ticket(session)
    clock.advance(TICKET_SECONDS)
    assert sessions.redeem(late, cookie) is None


def test_there_are_no_more_than_may_be_and_the_oldest_go() -> None:
    sessions = BrowserSessions(FakeClock())
    made = [sessions.begin(ACME, "tk", seconds=60) for _ in range(MOST_SESSIONS + 2)]
    assert [sessions.of(cookie) is not None for cookie, _ in made] == [False] * 2 + [True] * MOST_SESSIONS
    assert made[0][1].ended
    cookie, session = made[-1]
    tickets = [sessions.ticket(session) for _ in range(MOST_TICKETS + 1)]
    assert sessions.redeem(tickets[0], cookie) is None
    assert sessions.redeem(tickets[1], cookie) is session
