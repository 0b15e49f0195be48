"""Tells of soft quotas that are passed: by an event to who listens for the tenant, and by a line of the audit log."""

from decimal import Decimal
from typing import Protocol

import structlog

from carrel.errors import CarrelError
from carrel.events.hub import Hub
from carrel.ids import new_request_id
from carrel.metering.warnings import SoftWarning
from carrel.policy.pricing import plain
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory

_log = structlog.get_logger(__name__)


class Record(Protocol):
    """The audit log."""

    async def record(
        self, *, actor: str, action: str, target: str, request_id: str, outcome: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> None:  # fmt: skip
        """Add one line."""
        ...


class QuotaWarnings:
    """Where a meter's warnings go; `metering.warnings.Told`."""

    def __init__(self, *, directory: Directory, hub: Hub, audit: Record, tasks: Tasks) -> None:
        self._directory = directory
        self._hub = hub
        self._audit = audit
        self._tasks = tasks

    def __call__(self, warning: SoftWarning) -> None:
        """Tell of one. The log has it already."""
        tenant = self._directory.current.tenants.get(warning.tenant)
        told = {
            "quota": warning.quota, "used": _text(warning.used), "soft": _text(warning.soft),
            "until": warning.until.isoformat(timespec="seconds"),
        }  # fmt: skip
        if tenant is not None:
            self._hub.publish(tenant, "quota.warning", told)
        self._tasks.start(self._note(warning, told), name="quota warning")

    async def _note(self, warning: SoftWarning, told: dict[str, str]) -> None:
        try:
            await self._audit.record(
                actor="carrel", action="quota.warning", target=warning.quota, tenant=warning.tenant,
                request_id=new_request_id(), after=told, outcome="ok",
            )  # fmt: skip
        except CarrelError as error:
            _log.error("a quota's warning is not in the audit log", tenant=warning.tenant, error=error.message)


def _text(amount: int | Decimal) -> str:
    return plain(amount) if isinstance(amount, Decimal) else str(amount)
