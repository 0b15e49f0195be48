"""What is told where a soft quota is passed: once in each of its windows, to whoever wants to know."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from carrel.ids import TenantId
from carrel.policy.quota import day_reset, month_reset

_SLIDING: Final = {
    "requests_per_second": 60,
    "requests_per_minute": 60,
    "requests_per_hour": 3600,
    "concurrent_sessions": 3600,
}
"""Seconds for which one warning is enough; of a quota a second it is a minute."""


@dataclass(frozen=True, slots=True)
class SoftWarning:
    """A soft quota that is passed: what is used of it, and until when it is not told of again."""

    tenant: TenantId
    quota: str
    used: int | Decimal
    soft: int | Decimal
    until: datetime


Told = Callable[[SoftWarning], None]


def window_end(quota: str, wall: datetime) -> datetime:
    """When the window of ``quota`` that ``wall`` is in ends; of one without windows it is the day."""
    seconds = _SLIDING.get(quota)
    if seconds is not None:
        return wall + timedelta(seconds=seconds)
    return month_reset(wall) if "_per_month" in quota else day_reset(wall)
