"""Sessions of OpenClaw's, from their files or from their database, agent by agent."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from carrel.errors import CarrelError, NotFound
from carrel.imports import transcript
from carrel.imports.databases import document, opened, optional
from carrel.imports.report import Report
from carrel.imports.source import Source
from carrel.imports.values import loads

MOST_TRANSCRIPT: Final = 200 << 20
_SESSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SESSION_FILE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,120})\.jsonl")


@dataclass(frozen=True, slots=True)
class Session:
    """One session, its lines as entries of ours without a header. Who writes them takes them out: they may be many."""

    id: str
    agent: str
    key: str | None
    label: str | None
    began: datetime
    lines: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Found:
    """A session as it was found: ``where`` names it in the report, ``key`` and ``entry`` are what the index says."""

    agent: str
    id: str
    where: str
    key: str | None
    entry: Mapping[str, Any]


class SessionReader:
    """Reads them; no two have one id."""

    def __init__(self, source: Source, report: Report) -> None:
        self._source = source
        self._report = report
        self._seen: set[str] = set()

    def of(self, agent: str, source: str) -> Iterator[Session]:
        """The sessions of one agent, whose id there is ``source``."""
        yield from self._files_of(agent, source)
        yield from self._rows_of(agent, source)

    def _files_of(self, agent: str, source: str) -> Iterator[Session]:
        place = f"agents/{source}/sessions"
        index = self._index(f"{place}/sessions.json")
        by_file = {self._file_of(entry): (key, entry) for key, entry in index.items()}
        for name in self._source.names(place):
            base = name.path.rpartition("/")[2]
            found = _SESSION_FILE.fullmatch(base)
            if base == "sessions.json":
                continue
            if (found is None and base not in by_file) or name.kind != "file":
                why = "a link or device" if name.kind not in ("file", "directory") else "no session that is in use"
                self._report.add("session", name.path, "refused" if name.kind in ("link", "other") else "left", why)
                continue
            key, entry = by_file.pop(base, (None, {}))
            try:
                done = self._converted(name.path)
            except CarrelError as error:
                self._report.add("session", name.path, "refused", error.message)
                continue
            # One that the index names is a session, whatever it is called.
            called = found[1] if found is not None else base.removesuffix(".jsonl")
            yield from self._session(Found(agent, called, name.path, key, entry), done)
        for key, entry in by_file.values():
            self._report.add("session", str(key), "left", f"its file {self._file_of(entry)[:80]!r} is not there")

    def _converted(self, path: str) -> transcript.Converted:
        events, broken = transcript.parse_lines(self._source.read(path, limit=MOST_TRANSCRIPT))
        return transcript.convert(events, broken)

    def _rows_of(self, agent: str, source: str) -> Iterator[Session]:
        path = f"agents/{source}/agent/openclaw-agent.sqlite"
        if not optional(self._source, path):
            return
        try:
            with opened(self._source, path) as database:
                if not (database.has("session_nodes") and database.has("transcript_events")):
                    self._report.add("session", path, "left", "it has no sessions")
                    return
                ids: dict[str, tuple[str, Mapping[str, Any]]] = {}
                for key, session_id, entry in database.rows(
                    "SELECT session_key, current_session_id, entry_json FROM session_nodes ORDER BY updated_at"
                ):
                    ids[str(session_id)] = (str(key), document(entry))
                every = "SELECT DISTINCT session_id FROM transcript_events ORDER BY session_id"
                for (session_id,) in list(database.rows(every)):
                    events = [
                        dict(document(text)) for (text,) in database.rows(
                            "SELECT event_json FROM transcript_events WHERE session_id = ? ORDER BY seq", (session_id,)
                        )
                    ]  # fmt: skip
                    broken = [number for number, event in enumerate(events, 1) if not event]
                    key, entry = ids.get(str(session_id), (None, {}))
                    done = transcript.convert([event for event in events if event], broken)
                    yield from self._session(Found(agent, str(session_id), f"{path}#{session_id}", key, entry), done)
        except CarrelError as error:
            self._report.add("session", path, "refused", error.message)

    def _session(self, found: Found, done: transcript.Converted) -> Iterator[Session]:
        if not done.lines:
            self._report.add("session", found.where, "left", "; ".join(["nothing was said in it", *done.notes]))
            return
        chosen, mark = found.id, hashlib.sha256(found.where.encode("utf-8", "replace")).hexdigest()
        if not _SESSION.fullmatch(chosen):
            chosen = mark[:24]
        if chosen.casefold() in self._seen:
            chosen = f"{chosen[:100]}-{mark[:8]}"
        self._seen.add(chosen.casefold())
        notes = [*([f"as {chosen}"] if chosen != found.id else []), *done.notes]
        self._report.add("session", found.where, "changed" if notes else "taken", "; ".join(notes))
        entry = found.entry
        label = entry.get("displayName") or entry.get("label") or entry.get("subject")
        yield Session(
            chosen, found.agent, str(found.key)[:512] if found.key else None, str(label)[:200] if label else None,
            done.began, done.lines,
        )  # fmt: skip

    def _index(self, path: str) -> Mapping[str, Mapping[str, Any]]:
        try:
            found = loads(self._source.read(path, limit=MOST_TRANSCRIPT))
        except NotFound:
            return {}
        except (CarrelError, ValueError) as error:
            why = error.message if isinstance(error, CarrelError) else "it is no JSON"
            self._report.add("session", path, "refused", f"{why}: sessions have no names then")
            return {}
        if not isinstance(found, Mapping):
            return {}
        return {str(key): entry for key, entry in found.items() if isinstance(entry, Mapping)}

    @staticmethod
    def _file_of(entry: Mapping[str, Any]) -> str:
        named = entry.get("sessionFile")
        return str(named).rpartition("/")[2] if named else f"{entry.get('sessionId')}.jsonl"
