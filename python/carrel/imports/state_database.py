"""`state/openclaw.sqlite`: what OpenClaw's later generation keeps for all agents together. Each table is told of."""

from dataclasses import dataclass, field
from typing import Any, Final

from carrel.errors import CarrelError
from carrel.imports.databases import Database, document, opened, optional
from carrel.imports.report import Report
from carrel.imports.source import Source

PATH: Final = "state/openclaw.sqlite"
_READ: Final = frozenset({"cron_jobs", "channel_pairing_allow_entries", "voicewake_triggers"})
_WHY: Final = {
    "cron_run_logs": "the history of jobs: runs begin anew", "device_pairing_paired": "pair them anew",
    "device_pairing_pending": "pair them anew", "channel_pairing_requests": "who asks again is shown a new code",
}  # fmt: skip


@dataclass(slots=True)
class StateDatabase:
    """``jobs`` by what the report calls them; ``allowed`` are who may write, by `channel/account`; ``wake`` words."""

    jobs: list[tuple[str, Any]] = field(default_factory=list)
    allowed: dict[str, list[str]] = field(default_factory=dict)
    wake: list[str] = field(default_factory=list)


def read(source: Source, report: Report) -> StateDatabase:
    """What is in it; nothing where there is none."""
    found = StateDatabase()
    if not optional(source, PATH):
        return found
    try:
        with opened(source, PATH) as database:
            _read(database, found)
            tell_others(database, PATH, _READ, report)
    except CarrelError as error:
        report.add("state", PATH, "refused", error.message)
    return found


def tell_others(database: Database, path: str, read: frozenset[str], report: Report) -> None:
    """Tell of each table that has rows and is not one of ``read``."""
    for name in database.tables():
        if name in read:
            continue
        count = database.count(name)
        if count:
            why = _WHY.get(name, "nothing here is made of it")
            report.add("table", f"{path}#{name}", "left", f"{count} row{'s' * (count != 1)}: {why}")


def _read(database: Database, found: StateDatabase) -> None:
    if database.has("cron_jobs"):
        rows = database.rows("SELECT job_id, job_json FROM cron_jobs ORDER BY job_id")
        found.jobs = [(f"{PATH}#{key}", document(text)) for key, text in rows]
    if database.has("channel_pairing_allow_entries"):
        for channel, account, entry in database.rows(
            "SELECT channel_key, account_id, entry FROM channel_pairing_allow_entries "
            "ORDER BY channel_key, account_id, sort_order, entry"
        ):
            found.allowed.setdefault(f"{channel}/{account}", []).append(str(entry))
    if database.has("voicewake_triggers"):
        rows = database.rows("SELECT trigger FROM voicewake_triggers ORDER BY config_key, position")
        found.wake = [str(trigger) for (trigger,) in rows]
