"""Snapshots that a message makes of itself, before its first change: cheap ones, or none and the reason."""

import asyncio
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Final

import structlog

from carrel.clock import Clock
from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.sandbox.disk import Room
from carrel.sandbox.protocol import Sandbox
from carrel.sandbox.snapshots import Snapshots
from carrel.sandbox.tree import Limits, Stopped
from carrel.tenancy.handle import Tenant

SECONDS: Final = 5.0
"""How long a message waits for one."""
ENTRIES: Final = 20_000
AGAIN: Final = timedelta(days=1)
"""How long a reason is not told again of one workspace."""
_NUMBERS: Final = re.compile(r"[0-9]+")
THREADS: Final = 4
_MOST_TOLD: Final = 4096
_log = structlog.get_logger(__name__)


class Precautions:
    """See `agents.ports.Precaution`."""

    def __init__(self, *, snapshots: Snapshots, sandbox: Sandbox, clock: Clock) -> None:
        self._clock = clock
        self._snapshots = snapshots
        self._sandbox = sandbox
        # Of their own: what tenants have copied here holds up nothing else.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="carrel-snapshots")
        self._told: OrderedDict[tuple[TenantId, str], dict[str, datetime]] = OrderedDict()

    def close(self) -> None:
        """Stop the threads, after what they do now."""
        self._threads.shutdown(wait=True)

    async def before(self, tenant: Tenant, workspace: str, /, *, label: str, told: Callable[[str], None]) -> None:
        """Snapshot ``workspace`` where it has changed since it last was, and nothing else works in it."""
        if self._sandbox.busy(tenant.id, workspace):
            return
        over = threading.Event()
        clock = asyncio.get_running_loop().call_later(SECONDS, over.set)
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._threads, self._made, tenant, workspace, label, lambda: not over.is_set()
            )
        except (CarrelError, OSError, Stopped) as error:
            self._tell(tenant, workspace, told, _reason(error))
        finally:
            over.set()
            clock.cancel()

    def _made(self, tenant: Tenant, workspace: str, label: str, going: Callable[[], bool]) -> None:
        sandbox = tenant.config.sandbox
        limits = Limits(sandbox.snapshot_bytes, sandbox.snapshot_copy_bytes, ENTRIES, going)
        if self._snapshots.changed(tenant, workspace, limits):
            keep = sandbox.snapshots_automatic
            together = Room(keep * sandbox.snapshot_copy_bytes, keep * ENTRIES)
            self._snapshots.make(
                tenant, workspace, limits, keep=keep, label=label, why="before_turn", together=together
            )

    def _tell(self, tenant: Tenant, workspace: str, told: Callable[[str], None], reason: str) -> None:
        """Say each reason once a day, whatever the numbers in it, and whatever comes between."""
        now, kind = self._clock.now(), _NUMBERS.sub("", reason)
        said = self._told.setdefault((tenant.id, workspace), {})
        if kind in said and now - said[kind] < AGAIN:
            return
        said[kind] = now
        while len(self._told) > _MOST_TOLD:
            self._told.popitem(last=False)
        _log.info("a workspace was not snapshotted before a message", tenant=tenant.id, reason=reason)
        told(f"The workspace was not snapshotted before this message: {reason}")


def _reason(error: Exception) -> str:
    if isinstance(error, CarrelError):
        return error.message
    return f"it took over {SECONDS:g} s." if isinstance(error, Stopped) else "it could not be read."
