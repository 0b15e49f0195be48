"""Lines of the audit log for who may push: keys come and go by a command that asks no gateway, or by hand.

What is there is held against what was there when it was last looked at, also before a gateway ran. It must not know
what a key does.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from carrel.clock import Clock
from carrel.durability import replace_synced
from carrel.errors import CarrelError
from carrel.gitops.follow import Recorder
from carrel.ids import new_request_id
from carrel.vcs.keys import Key
from carrel.wire.control import AuditQuery

LOOK_SECONDS: Final = 2.0
_log = structlog.get_logger(__name__)


class Lists(Protocol):
    """The file of keys at ``path``."""

    path: Path

    def list(self) -> Sequence[Key]:
        """All keys; raises CarrelError."""
        ...


class Known(BaseModel):
    """The names of keys, by their fingerprints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: Mapping[str, str] = {}


class Pushers:
    """One for a gateway. ``kept`` is the file that says what was seen last; run ``watch`` as a task."""

    def __init__(self, keys: Lists, kept: Path, *, audit: Recorder, clock: Clock) -> None:
        self._keys = keys
        self._kept = kept
        self._audit = audit
        self._clock = clock
        self._looked: object = None

    async def watch(self) -> None:
        """Look for good; cancel it to stop."""
        while True:
            try:
                await self.look()
            except (CarrelError, OSError) as error:
                _log.error("who may push could not be written down; it is tried again", reason=str(error))
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """A line for each key that came or went since; raises CarrelError, OSError, and then the next look has it."""
        found = await asyncio.to_thread(self._signature)
        if found == self._looked:
            return
        before, now = await asyncio.to_thread(self._read)
        for key in sorted(before.items() - now.items()):
            await self._note("git.revoke", key, before=key[0])
        for key in sorted(now.items() - before.items()):
            await self._note("git.authorize", key, after=key[0])
        if now != before:
            await asyncio.to_thread(self._keep, now)
        self._looked = found

    async def _note(self, action: str, key: tuple[str, str], **shown: str) -> None:
        if await self._newest(*key) == action:
            # Its line is there: a gateway died before what it had seen was kept.
            return
        await self._audit.record(
            actor="edit", action=action, target=key[1], request_id=new_request_id(), outcome="ok",
            before=shown.get("before"), after=shown.get("after"),
        )  # fmt: skip

    async def _newest(self, fingerprint: str, name: str) -> object:
        """What the newest line about the key under this name says, None where there is none."""
        query = AuditQuery(action="git.*", target=name, text=fingerprint, order="newest", limit=1)
        lines = (await self._audit.page(query)).lines
        return lines[0]["action"] if lines else None

    def _signature(self) -> object:
        try:
            stat = self._keys.path.stat()
        except FileNotFoundError:
            return ()
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    def _read(self) -> tuple[dict[str, str], dict[str, str]]:
        try:
            before = Known.model_validate_json(self._kept.read_bytes())
        except (FileNotFoundError, ValidationError):
            before = Known()
        return dict(before.keys), {key.fingerprint: key.name for key in self._keys.list()}

    def _keep(self, now: Mapping[str, str]) -> None:
        replace_synced({self._kept: Known(keys=now).model_dump_json().encode()})
