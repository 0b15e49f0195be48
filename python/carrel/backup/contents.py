"""What a tenant's directory may hold, and what becomes of each in backups, archives, restores and under another id.

This is the one list: what is left out, carried over and taken away follows from it. A test drives everything that makes
state, and fails where a file is in no line here.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

Own = Literal["back", "stays", "united"]
"""When its own tenant is restored: as it was then; as it is now; or as both together."""
Other = Literal["along", "left"]
"""Under another id: it comes along, or it does not."""


@dataclass(frozen=True, slots=True)
class Held:
    """``path``: `*` is one name, `**` anything beneath. ``kept`` is whether backups and archives have it."""

    path: str
    what: str
    own: Own = "back"
    other: Other = "along"
    kept: bool = True
    why: str = ""


CONTENTS: Final = (
    Held("config.yaml", "its own settings"),
    Held("sessions/**", "transcripts and their index"),
    Held("sessions.d/**", "members' transcripts, and what searches all of them"),
    Held("memory/**", "what agents should remember"),
    Held("agents/**", "agents' files"),
    Held("plugins/**", "installed skills"),
    Held("sandbox/**", "the workspace"),
    Held("sandbox.d/**", "workspaces of members and sessions"),
    Held("cron/**", "jobs and their runs"),
    Held("channels/**", "settings of channels, and who may write to them"),
    Held("credentials/vault/**", "sealed secrets", why="sealed anew for another id; none without its key"),
    Held("credentials/connections/**", "connected accounts", "stays", "left", why="people gave them to one tenant"),
    Held("credentials/tokens.json", "digests of tokens", "stays", "left", why="a token's text names its tenant"),
    Held("devices/devices.json", "paired devices and nodes", "stays", "left", why="each holds such a token"),
    Held("devices/voicewake.json", "the words that wake devices"),
    Held("grants.json", "what agents asked for and people granted", "stays", "left", why="granted to one tenant"),
    Held("quota-requests.json", "requests for higher quotas", "stays", "left", why="decided for one tenant"),
    Held("usage/ledger.sqlite", "the bill, with its sums", "united", "left", why="what was charged stays charged"),
    Held("usage/damaged/**", "ledgers that were damaged", "united", "left", why="they are kept as they were"),
    Held("usage/once.sqlite", "idempotency keys of a day", "back", "left", why="they say what was done to one tenant"),
    Held("responses/**", "kept responses"),
    Held("terminals/**", "recordings of terminals"),
    Held("imported.json", "which archive it came from"),
    Held("snapshots/**", "copies of workspaces", "stays", "left", kept=False, why="backups are copies themselves"),
    Held("backups.json", "when it was backed up last", "stays", "left", kept=False, why="it says so of one place"),
)  # fmt: skip


def held(path: str) -> Held | None:
    """The line for the file at ``path``."""
    return next((one for one in CONTENTS if _pattern(one.path).fullmatch(path)), None)


def paths(*, own: Own | None = None, other: Other | None = None) -> tuple[str, ...]:
    """The paths that are treated so."""
    return tuple(
        one.path for one in CONTENTS if (own is None or one.own == own) and (other is None or one.other == other)
    )  # fmt: skip


@lru_cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("".join(".+" if part == "**" else "[^/]+" if part == "*" else re.escape(part)
                              for part in re.split(r"(\*\*|\*)", path)))  # fmt: skip


NOT_KEPT: Final = frozenset(one.path.partition("/")[0] for one in CONTENTS if not one.kept)
"""Names at the top that no backup and no archive has."""

GOES_ON: Final = ("snapshots",)
"""Directories of those that are as large as workspaces: a restore moves them into the directory that it brings back."""
