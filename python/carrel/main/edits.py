"""Lines of the audit log for what people changed in tenants.d by hand, which no command asked for.

A file counts that is another than when it was last looked at, and other than the gateway itself wrote it. Where the
declarations come by git, who moved the branch has the line, and there is nothing to do here.
"""

import asyncio
from typing import Final

from carrel.audit.log import Audit
from carrel.declare import directory
from carrel.errors import CarrelError
from carrel.ids import new_request_id
from carrel.plan.plan import Plan
from carrel.reconcile.status import Applied
from carrel.vcs.git import Git
from carrel.vcs.work_tree import WorkTree

_NAMED: Final = 50
_QUIET: Final = ("unchanged", "broken", "hold", "refuse", "delete")


class HandEdits:
    """A listener of the reconciler: one line for each pass that brought such files into force."""

    def __init__(self, place: WorkTree, audit: Audit) -> None:
        self._place = place
        self._audit = audit
        self._seen: dict[str, str | None] = {}

    async def __call__(self, applied: Applied) -> None:
        """Look at what a pass brought into force."""
        if applied.previous is None:
            await asyncio.to_thread(self._first)
            return
        verbs = _verbs(applied.plan)
        names = await asyncio.to_thread(self._edited, verbs)
        if not names:
            return
        await self._audit.record(
            actor=await self._who(names), action="declared.edit", target=str(self._place.path), tenant=None,
            request_id=new_request_id(), outcome="ok", before=applied.previous.revision,
            after={
                "revision": applied.snapshot.revision, "count": len(names),
                "files": {name: verbs[name] for name in names[:_NAMED]},
            },
        )  # fmt: skip

    def _first(self) -> None:
        self._seen = {name: self._digest(name) for name in directory.scan(self._place.path)}

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


def by_hand(place: object, audit: Audit) -> tuple[HandEdits, ...]:
    """The listeners that a gateway needs whose declarations are in ``place``."""
    return (HandEdits(place, audit),) if isinstance(place, WorkTree) else ()


def _verbs(plan: Plan) -> dict[str, str]:
    """What happened, by the file that says so."""
    changed = {f"{action.tenant}.yaml": str(action.verb) for action in plan.actions if action.verb not in _QUIET}
    return {**changed, **dict.fromkeys(plan.operator_changes, "update")}
