"""Which tenants that are no longer declared may be suspended at once, and which wait for a person's word. Pure.

One tenant whose file is gone was meant to go. A tree that is suddenly empty, or that has lost many tenants at once, is
more often a mount that failed, a wrong branch or a mistyped `rm`; it is told apart by how much is gone within a short
time.
"""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from carrel.ids import TenantId

WINDOW_SECONDS: Final = 60.0
"""Losses this close to each other are one loss."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What is done with tenants that are gone. ``confirm`` names the ``held`` ones, for a person to confirm."""

    suspend: frozenset[TenantId] = frozenset()
    refused: frozenset[TenantId] = frozenset()
    held: frozenset[TenantId] = frozenset()
    confirm: str = ""


def judge_loss(
    gone: Collection[TenantId],
    *,
    declared: int,
    lately: int,
    share: float,
    protected: Collection[TenantId] = (),
    ordered: Collection[TenantId] = (),
) -> Loss:
    """What to do with ``gone``, that are in force and no longer declared.

    ``declared`` is how many tenants are, ``lately`` how many were suspended for this very reason in the last
    `WINDOW_SECONDS`. More than ``share`` of all gone at once, and more than one, is held, as is the last tenant of all.
    ``ordered`` were named by a person one by one, and count for nothing.
    """
    refused = frozenset(gone) & frozenset(protected)
    meant = (frozenset(gone) - refused) & frozenset(ordered)
    lost = frozenset(gone) - refused - meant
    total = declared + len(lost) + len(refused) + lately
    many = len(lost) + lately > 1 and len(lost) + lately > share * total
    if lost and (many or declared == 0):
        return Loss(meant, refused, lost, confirmation(lost))
    return Loss(meant | lost, refused)


def confirmation(tenants: Iterable[TenantId]) -> str:
    """The word that confirms the loss of exactly these tenants."""
    return hashlib.sha256("\n".join(sorted(tenants)).encode()).hexdigest()[:12]
