"""Every call of a ledger counted anew, and held against the sums that are kept beside them.

Blocks: for a thread of its own, on a connection of its own. SQLite does it by itself, a part of a day at a time: the
interpreter is the event loop's meanwhile, and memory is that of a part, with the groups of one day.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import apsw

from carrel.clock import remaining
from carrel.metering.addition import KEYS, differing, grouped_between
from carrel.metering.rows import DAY
from carrel.store.sqlite import translated

PART_ROWS: Final = 20_000
"""How many calls are looked at in one statement: a fraction of a second."""
_LOOK_EVERY: Final = 1_000_000
"""After so many steps of SQLite's, some ten milliseconds, it is looked whether a recount goes on. Not oftener: each
look asks for the interpreter, which the event loop has."""
_PAGES_KIB: Final = 2 * 1024


@dataclass(frozen=True, slots=True)
class Recount:
    """How many calls were counted anew, and which days and models did not say so."""

    calls: int
    wrong: tuple[tuple[str, str], ...]


@dataclass(slots=True, eq=False)
class Counting:
    """How far a recount is, in calls: written by its thread and read by others. Both are 0 until it begins."""

    done: int = 0
    total: int = 0
    now: Callable[[], float] = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.now()

    @property
    def eta(self) -> float | None:
        """Seconds until it is done at the pace so far; None where nothing can be said yet."""
        return remaining(self.done, self.total, self.now() - self.began)

    def begin(self, total: int) -> None:
        """There are ``total`` calls, and they are counted from now on."""
        self.total, self.began = total, self.now()


def recount(
    connection: apsw.Connection, counting: Counting | None = None, stopped: Callable[[], bool] = lambda: False
) -> Recount:
    """Count every call anew, day by day, and hold it against what is kept: as long as the calls are many.

    Each day is one look at the ledger, to which calls may be added meanwhile. It ends with an error soon after
    ``stopped`` says so.
    """
    counting = counting or Counting()
    connection.pragma("cache_size", -_PAGES_KIB)
    connection.set_progress_handler(stopped, _LOOK_EVERY)
    wrong = set[tuple[str, str]]()
    with translated():
        # None is ever taken away: the last one's number is how many there are.
        last: Any = connection.execute("SELECT coalesce(max(seq), 0) FROM calls").fetchone()
        counting.begin(last[0])
        for day in _days_of(connection):
            with connection:
                wrong |= _wrong_of_day(connection, day, counting)
    return Recount(counting.done, tuple(sorted(wrong)))


def _days_of(connection: apsw.Connection) -> list[date]:
    """The days that have calls or sums."""
    found: list[Any] = connection.execute(
        "SELECT date FROM rollups UNION SELECT date FROM session_rollups UNION SELECT * FROM ("
        "WITH RECURSIVE ones(day) AS (SELECT min(started) / :day FROM calls UNION "
        "SELECT (SELECT min(started) FROM calls WHERE started >= (day + 1) * :day) / :day FROM ones "
        "WHERE day IS NOT NULL) SELECT date(day * 86400, 'unixepoch') FROM ones WHERE day IS NOT NULL)",
        {"day": DAY},
    ).fetchall()
    return [date.fromisoformat(day) for (day,) in found]


def _wrong_of_day(connection: apsw.Connection, day: date, counting: Counting) -> set[tuple[str, str]]:
    """The day with each model of which the sums are wrong."""
    first = (day - date(1970, 1, 1)).days * DAY
    longest = 0
    connection.execute("DELETE FROM fresh")
    for part in _parts(connection, first, first + DAY):
        found: Any = connection.execute(
            "SELECT count(*), max(length(cost_usd)) FROM calls WHERE started >= ? AND started < ?", part
        ).fetchone()
        connection.execute(grouped_between(found[1] or 0), part)
        longest = max(longest, found[1] or 0)
        counting.done += found[0]
    wrong = set[Any]()
    for table in KEYS:
        wrong |= set(connection.execute(differing(table, longest), (day.isoformat(),)))
    connection.execute("DELETE FROM fresh")
    return wrong


def _parts(connection: apsw.Connection, first: int, end: int) -> Iterator[tuple[int, int]]:
    """The moments between which the calls of ``first`` to ``end`` are looked at."""
    while first < end:
        beyond: Any = connection.execute(
            "SELECT started FROM calls WHERE started >= ? AND started < ? ORDER BY started LIMIT 1 OFFSET ?",
            (first, end, PART_ROWS),
        ).fetchone()
        # As many may have begun in one microsecond.
        after = end if beyond is None else max(beyond[0], first + 1)
        yield first, after
        first = after
