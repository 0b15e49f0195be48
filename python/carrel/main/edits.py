"""Lines of the audit log for what people changed in tenants.d by hand, which no command asked for.

A file counts that is another than when it was last looked at, and other than the gateway itself wrote it: also one that
was changed while no gateway ran, for what was last looked at is kept in the state directory. Where the declarations
come by git, who moved the branch has the line, and there is nothing to do here.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from carrel.audit.log import Audit
from carrel.declare import directory
from carrel.durability import replace_synced
from carrel.errors import CarrelError
from carrel.ids import new_request_id
from carrel.plan.plan import Plan
from carrel.reconcile.status import Applied
from carrel.vcs.git import Git
from carrel.vcs.work_tree import WorkTree

_log = structlog.get_logger(__name__)
_NAMED: Final = 50
_QUIET: Final = ("unchanged", "broken", "hold", "refuse", "delete")
SEEN: Final = "declared-seen.json"
"""In the state directory: the files of tenants.d as they were when they were last looked at."""


class Seen(BaseModel):
    """The revision that was in force, and the SHA-256 of each file. ``place`` is whose files they are."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    place: str
    revision: str
    files: dict[str, str]


class HandEdits:
    """A listener of the reconciler: one line for each pass that brought such files into force."""

    def __init__(self, place: WorkTree, audit: Audit, *, state_dir: Path) -> None:
        self._place = place
        self._audit = audit
        self._kept = state_dir / SEEN
        self._seen: dict[str, str | None] = {}
        self._noted: dict[str, str] | None = None

    async def __call__(self, applied: Applied) -> None:
        """Look at what a pass brought into force."""
        revision = applied.snapshot.revision
        if applied.previous is None:
            before, changed = await asyncio.to_thread(self._first)
            if changed:
                await self._record(list(changed), changed, before, revision, meanwhile="no gateway ran")
        else:
            verbs = _verbs(applied.plan)
            names = await asyncio.to_thread(self._edited, verbs)
            if names:
                await self._record(names, verbs, applied.previous.revision, revision)
        await asyncio.to_thread(self._keep, revision)

    async def _record(
        self, names: list[str], verbs: Mapping[str, str], before: str, revision: str, **more: str
    ) -> None:  # fmt: skip
        await self._audit.record(
            actor=await self._who(names), action="declared.edit", target=str(self._place.path), tenant=_whose(names),
            request_id=new_request_id(), outcome="ok", before=before,
            after={
                "revision": revision, "count": len(names), **more,
                "files": {name: verbs[name] for name in names[:_NAMED]},
            },
        )  # fmt: skip

    def _first(self) -> tuple[str, dict[str, str]]:
        """The revision that was in force when a gateway last ran, and what became of which files since."""
        self._seen = {name: self._digest(name) for name in directory.scan(self._place.path)}
        try:
            kept = Seen.model_validate_json(self._kept.read_bytes())
        except (OSError, ValidationError):
            return "", {}
        if kept.place != str(self._place.path):
            return "", {}
        there, here = kept.files, self._files()
        verbs = {name: "update" if name in there else "create" for name in here if there.get(name) != here[name]}
        return kept.revision, dict(sorted({**verbs, **dict.fromkeys(there.keys() - here.keys(), "remove")}.items()))

    def _keep(self, revision: str) -> None:
        files = self._files()
        if files == self._noted:
            return
        self._noted, kept = files, Seen(place=str(self._place.path), revision=revision, files=files)
        data = json.dumps(kept.model_dump(), sort_keys=True).encode()
        try:
            replace_synced({self._kept: data})
        except OSError as error:
            # At worst the next start tells once more of what has its line.
            _log.warning("what is declared could not be noted", reason=error.strerror)

    def _files(self) -> dict[str, str]:
        return {name: digest for name, digest in self._seen.items() if digest is not None}

    def _edited(self, verbs: dict[str, str]) -> list[str]:
        edited = []
        for name in sorted(verbs):
            digest, before = self._digest(name), self._seen.get(name)
            self._seen[name] = digest
            if digest == before:
                # The tenant's own settings changed, and its file stays as it was.
                continue
            if digest == self._place.wrote.get(name, ""):
                # Once: who puts the same text there later has edited it.
                del self._place.wrote[name]
            else:
                edited.append(name)
        return edited

    def _digest(self, name: str) -> str | None:
        try:
            return directory.read(self._place.path, name).digest
        except (OSError, directory.Refused):
            return None

    async def _who(self, names: list[str]) -> str:
        """The commit that has these files as they are, or that somebody edited them."""
        try:
            git = await Git.find(self._place.path)
            head = await git.head() if git is not None else None
            if head is not None and not set(names) & set(await self._place.uncommitted()):
                return f"commit:{head[:12]}"
        except CarrelError:
            pass
        return "edit"


def by_hand(place: object, audit: Audit, state_dir: Path) -> tuple[HandEdits, ...]:
    """The listeners that a gateway needs whose declarations are in ``place``."""
    return (HandEdits(place, audit, state_dir=state_dir),) if isinstance(place, WorkTree) else ()


def _whose(names: list[str]) -> str | None:
    """The tenant whose file alone it is."""
    return names[0].removesuffix(".yaml") if len(names) == 1 and not names[0].startswith("_") else None


def _verbs(plan: Plan) -> dict[str, str]:
    """What happened, by the file that says so."""
    changed = {f"{action.tenant}.yaml": str(action.verb) for action in plan.actions if action.verb not in _QUIET}
    return {**changed, **dict.fromkeys(plan.operator_changes, "update")}
