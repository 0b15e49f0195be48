"""Keys of the control plane: what each may do, for which tenants, and until when. It knows no request."""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from carrel.declare.base import Declared, Digest, Moment, Name
from carrel.ids import TenantId

AdminScope = Literal[
    "gateway:read",
    "gateway:write",
    "metrics:read",
    "tenants:read",
    "tenants:write",
    "tokens:read",
    "tokens:write",
    "quotas:read",
    "quotas:write",
    "billing:read",
    "audit:read",
    "backups:read",
    "backups:write",
    "backups:restore",
    "archives",
    "secrets:read",
    "secrets:write",
    "sandboxes:read",
    "sandboxes:write",
    "act",
]
"""What one route of the control plane asks of a key."""
Bundle = Literal["read", "write"]
TenantPattern = Annotated[str, Field(pattern=r"^(?:[a-z0-9][a-z0-9_-]{0,31}|[a-z0-9][a-z0-9_-]{0,30}\*)$")]
"""A tenant's id, or the beginning of ids and a `*`."""

ABOUT: Final = MappingProxyType[AdminScope, str]({
    "gateway:read": "what runs, what is declared, what would change, history",
    "gateway:write": "reconcile, pull, take in what was pushed, roll back what is declared",
    "metrics:read": "the metrics, from elsewhere than the gateway's own machine",
    "tenants:read": "tenants, how they stand, and the plans",
    "tenants:write": "create, resize, suspend, resume and remove tenants",
    "tokens:read": "tenants' tokens, by name and prefix",
    "tokens:write": "issue, rotate and revoke them; who has a token is that tenant",
    "quotas:read": "quotas in use, and what tenants ask for beyond them",
    "quotas:write": "set them, and decide what is asked for",
    "billing:read": "usage, invoices, recounts and the prices",
    "audit:read": "the audit log",
    "backups:read": "which backups there are, and how far one is",
    "backups:write": "make, verify and collect backups",
    "backups:restore": "bring a tenant back from one, in place of what it has",
    "archives": "take a tenant out as one file, with all that it has, also to where backups go, or in",
    "secrets:read": "secrets of tenants, by name; values never come out",
    "secrets:write": "set, remove and reseal them",
    "sandboxes:read": "kept sandboxes with their logs, and snapshots",
    "sandboxes:write": "stop sandboxes; make, remove and bring back snapshots",
    "act": "do as a tenant does: chat, every JSON-RPC method, terminals, commands in its sandboxes",
})  # fmt: skip
"""Every scope, in a few words."""
EVERY: Final = frozenset[AdminScope](get_args(AdminScope))
BUNDLES: Final = MappingProxyType[Bundle, frozenset[AdminScope]]({
    "read": frozenset(scope for scope in EVERY if scope.endswith(":read")),
    "write": frozenset(scope for scope in EVERY if not scope.endswith(":read")),
})  # fmt: skip
"""Scopes that come together: to look at everything, and to change everything."""


class AdminKey(Declared):
    """A key of the control plane, ``ak_<name>_<32 hex>``, declared by its digest."""

    name: Name = Field(description="What the key is called in the audit log.")
    sha256: Digest = Field(description="The SHA-256 of the key's text, in lower-case hex; never the key itself.")
    scopes: tuple[AdminScope | Bundle, ...] = Field(
        ("read", "write"),
        description="What it may do. `read` is all that end with `:read`, `write` all others; see "
        "docs/howto/admin-keys.md.",
    )
    tenants: Annotated[tuple[TenantPattern, ...], Field(min_length=1, max_length=10_000)] | None = Field(
        None,
        description="The only tenants it is for, each an id, or a beginning as `shop-*`; others do not exist for it, "
        "and what is about all of them is refused. Default: all tenants.",
    )
    expires: Moment | None = Field(None, description="When it stops working, with its offset: `2027-01-31T00:00:00Z`.")


def scopes_of(named: Iterable[str]) -> frozenset[AdminScope]:
    """The scopes in ``named``, with those of the bundles in it."""
    wanted = frozenset(named)
    bundled = {scope for name, scopes in BUNDLES.items() if name in wanted for scope in scopes}
    return frozenset(scope for scope in EVERY if scope in wanted or scope in bundled)


def is_for(patterns: Iterable[str] | None, tenant: TenantId) -> bool:
    """Whether a key that is limited to ``patterns`` is for ``tenant``; None is for every one."""
    if patterns is None:
        return True
    return any(tenant.startswith(pattern[:-1]) if pattern.endswith("*") else tenant == pattern for pattern in patterns)
