"""What this room asks of the audit log: a line for each change, with how it ended."""

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

from carrel.ids import TenantId
from carrel.wire.control import Actor


class Recorder(Protocol):
    """Writes down who changes what."""

    def change(
        self, *, actor: str, action: str, target: str, request_id: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> AbstractAsyncContextManager[None]:  # fmt: skip
        """Make a change within it: its one line says how it ended. Raises StorageFull where none could be kept."""
        ...


def reconciling(
    recorder: Recorder | None, by: Actor | None, tenant: TenantId | None, confirm: str | None
) -> AbstractAsyncContextManager[None]:
    """A pass that somebody asked for, with the word for removals where there was one; one of its own has no line."""
    if recorder is None or by is None:
        return nullcontext()
    return recorder.change(
        actor=by.name, action="reconcile", target=tenant or "all", tenant=tenant, request_id=by.request_id,
        after={"confirm": confirm} if confirm is not None else None,
    )  # fmt: skip
