"""The index of one tenant's sessions: in memory, with a log beside the transcripts that only saves reading them.

The transcripts are what is true. A log line holds a summary with the size of the transcript it was made from; at load
every transcript whose size is another one is read anew, and so the log is never synced and may be missing or torn.
Blocking, and so called from worker threads alone, but for the look-ups.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from carrel.agents import transcript
from carrel.agents.summary import SessionSummary
from carrel.errors import CarrelError, InvalidRequest
from carrel.ids import SessionId, parse_session_id
from carrel.tenancy.paths import TenantRoot

_log = structlog.get_logger(__name__)
INDEX: Final = "index.log"
MAX_INDEX_BYTES: Final = 64 * 1024 * 1024
_SLACK: Final = 256


class _Line(BaseModel):
    """A session as it is now, or the id of one that is gone."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    session: SessionSummary | None = None
    gone: str | None = None


class Shelf:
    """All sessions of one tenant."""

    def __init__(self) -> None:
        self.sessions: dict[SessionId, SessionSummary] = {}
        self.busy = 0
        self._keys: dict[tuple[str, str], SessionId] = {}
        self._lines = 0

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the shelf in memory, for what is put on it must be seen by all."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    def by_key(self, agent: str, key: str) -> SessionSummary | None:
        """The session that ``key`` names with ``agent``."""
        session_id = self._keys.get((agent, key))
        return self.sessions.get(session_id) if session_id is not None else None

    def newest_first(self) -> list[SessionSummary]:
        """All sessions, the last used first."""
        return sorted(self.sessions.values(), key=lambda s: (s.updated_at, s.session_id), reverse=True)

    def put(self, summary: SessionSummary) -> None:
        """Take ``summary`` in."""
        self.sessions[summary.session_id] = summary
        if summary.key is not None:
            self._keys[summary.agent, summary.key] = summary.session_id

    def drop(self, session_id: SessionId) -> None:
        """Forget a session."""
        gone = self.sessions.pop(session_id, None)
        if gone is not None and gone.key is not None and self._keys.get((gone.agent, gone.key)) == session_id:
            del self._keys[gone.agent, gone.key]

    def load(self, directory: TenantRoot) -> None:
        """Fill the shelf from the log, and from every transcript that the log does not know as it is."""
        noted = self._read_log(directory)
        found: dict[SessionId, os.stat_result] = {}
        for name, info in directory.entries():
            session_id = _session_of(name)
            if session_id is not None and stat.S_ISREG(info.st_mode):
                found[session_id] = info
        for session_id, info in found.items():
            summary = noted.get(session_id)
            if summary is None or summary.size != info.st_size:
                summary = _read_summary(directory, session_id, info)
            if summary is not None:
                self.put(summary)
        if noted.keys() != self.sessions.keys() or self._lines > 2 * len(self.sessions) + _SLACK:
            self._rewrite(directory)

    def note(self, directory: TenantRoot, session_id: SessionId) -> None:
        """Write down how a session stands; what cannot be written is read from its transcript at the next start."""
        summary = self.sessions.get(session_id)
        line = _Line(gone=session_id) if summary is None else _Line(session=summary)
        self._lines += 1
        if self._lines > 2 * len(self.sessions) + _SLACK:
            self._rewrite(directory)
            return
        try:
            fd = directory.open_file(INDEX, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                os.write(fd, line.model_dump_json(exclude_none=True).encode() + b"\n")
            finally:
                os.close(fd)
        except (OSError, CarrelError):
            _log.warning("a session index cannot be written")

    def _rewrite(self, directory: TenantRoot) -> None:
        # A copy: while this thread writes them down, the loop's puts others on the shelf.
        now = self.sessions.copy().values()
        lines = [_Line(session=s).model_dump_json(exclude_none=True).encode() + b"\n" for s in now]
        try:
            directory.replace(INDEX, b"".join(lines))
        except CarrelError as error:
            _log.warning("a session index cannot be written", error=error.message)
        self._lines = len(lines)

    def _read_log(self, directory: TenantRoot) -> dict[SessionId, SessionSummary]:
        noted: dict[SessionId, SessionSummary] = {}
        try:
            data = directory.read(INDEX, limit=MAX_INDEX_BYTES)
        except CarrelError:
            return noted
        for text in data.splitlines():
            self._lines += 1
            try:
                line = _Line.model_validate_json(text)
            except ValidationError:
                continue
            if line.session is not None:
                noted[line.session.session_id] = line.session
            elif line.gone is not None:
                noted.pop(SessionId(line.gone), None)
        return noted


def _session_of(name: str) -> SessionId | None:
    if not name.endswith(transcript.SUFFIX):
        return None
    try:
        return parse_session_id(name[: -len(transcript.SUFFIX)])
    except InvalidRequest:
        return None


def _read_summary(directory: TenantRoot, session_id: SessionId, info: os.stat_result) -> SessionSummary | None:
    """The summary of a transcript, None where it cannot be read at all."""
    try:
        loaded = transcript.read(directory, session_id)
    except CarrelError as error:
        _log.warning("a transcript cannot be read", session=session_id, error=error.message)
        return None
    first = loaded.entries[0].ts if loaded.entries else datetime.fromtimestamp(info.st_mtime, UTC)
    return SessionSummary.of(session_id, loaded.header, fallback=first).after(loaded.entries, size=info.st_size)
