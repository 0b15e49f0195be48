"""Full text of a tenant's sessions: an index beside the transcripts, brought up to date when it is asked.

The transcripts are what is true; an index that is lost is made anew. Words are matched without case and accents, the
last one by its beginning too.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import apsw

from carrel.agents.sessions import Sessions
from carrel.agents.summary import SessionSummary
from carrel.errors import InvalidRequest
from carrel.ids import SessionId
from carrel.store.sqlite import transaction
from carrel.store.tenants import TenantDatabases
from carrel.tenancy.handle import Tenant

MOST: Final = 1000
"""Hits that are looked at for one query."""
_WORD: Final = re.compile(r"\w+")
_MAX_WORDS: Final = 32


@dataclass(frozen=True, slots=True)
class Hit:
    """A message with the words in it. ``score`` is the better the higher; ``snippet`` has them in brackets."""

    session_id: SessionId
    agent: str
    role: str
    at: datetime
    snippet: str
    score: float


def match_of(query: str) -> str:
    """``query`` as FTS5 takes it: every word must be there. Raises InvalidRequest where there is none."""
    words = _WORD.findall(query)[:_MAX_WORDS]
    if not words:
        raise InvalidRequest("The query has no word in it.", param="query")
    quoted = [f'"{word}"' for word in words]
    return " ".join([*quoted[:-1], quoted[-1] + "*"])


class SessionSearch:
    """Searches the sessions of all tenants."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._databases = TenantDatabases(directory="sessions.d", name="search.sqlite", schema=_upgrade)

    async def search(
        self, tenant: Tenant, query: str, *, agent: str | None = None, session_id: SessionId | None = None
    ) -> Sequence[Hit]:
        """Messages with the words of ``query``, the best first; of the tenant's sessions, or of a member's own."""
        match, own = match_of(query), tenant.own or ""
        summaries = {one.session_id: one for one in await self._sessions.list(tenant)}
        known = await self._databases.run(tenant, lambda c: _sizes(c, own))
        for gone in known.keys() - summaries.keys():
            await self._databases.run(tenant, _put(own, gone, None, ()))
        for summary in summaries.values():
            if known.get(summary.session_id) != summary.size:
                size, said = await self._sessions.said(tenant, summary.session_id)
                await self._databases.run(tenant, _put(own, summary.session_id, size, said))
        rows = await self._databases.run(tenant, lambda c: _found(c, own, match, session_id))
        hits = [_hit(row, summaries) for row in rows]
        return [hit for hit in hits if hit is not None and agent in (None, hit.agent)]

    async def close(self) -> None:
        """Close the databases."""
        await self._databases.close()


Row = tuple[str, str, float, str, float]


def _hit(row: Row, summaries: dict[SessionId, SessionSummary]) -> Hit | None:
    session, role, at, snippet, score = row
    summary = summaries.get(SessionId(session))
    if summary is None:
        return None
    moment = datetime.fromtimestamp(at, summary.created_at.tzinfo)
    return Hit(summary.session_id, summary.agent, role, moment, snippet, -score)


def _sizes(connection: apsw.Connection, own: str) -> dict[SessionId, int]:
    rows = connection.execute("SELECT session, size FROM indexed WHERE own = ?", (own,))
    return {SessionId(str(session)): int(size) for session, size in rows}


def _put(
    own: str, session_id: SessionId, size: int | None, said: Sequence[tuple[str, datetime, str]]
) -> Callable[[apsw.Connection], None]:
    def work(connection: apsw.Connection) -> None:
        with transaction(connection):
            connection.execute("DELETE FROM said WHERE own = ? AND session = ?", (own, session_id))
            connection.execute("DELETE FROM indexed WHERE own = ? AND session = ?", (own, session_id))
            if size is None:
                return
            connection.execute("INSERT INTO indexed VALUES (?, ?, ?)", (own, session_id, size))
            connection.executemany(
                "INSERT INTO said (own, session, role, at, text) VALUES (?, ?, ?, ?, ?)",
                [(own, session_id, role, at.timestamp(), text) for role, at, text in said],
            )

    return work


def _found(connection: apsw.Connection, own: str, match: str, session_id: SessionId | None) -> list[Row]:
    rows = connection.execute(
        "SELECT session, role, at, snippet(said, 4, '[', ']', '…', 24), bm25(said) AS score FROM said "
        "WHERE said MATCH ? AND own = ? AND (? IS NULL OR session = ?) ORDER BY score, rowid DESC LIMIT ?",
        (match, own, session_id, session_id, MOST),
    )
    return list(rows)


def _upgrade(connection: apsw.Connection) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS indexed (own TEXT, session TEXT, size INTEGER, PRIMARY KEY (own, session)) "
        "WITHOUT ROWID"
    )
    connection.execute(
        "CREATE VIRTUAL TABLE IF NOT EXISTS said USING fts5(own UNINDEXED, session UNINDEXED, role UNINDEXED, "
        "at UNINDEXED, text, tokenize = 'unicode61 remove_diacritics 2')"
    )
