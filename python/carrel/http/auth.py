"""Who calls: a tenant by its token, an operator by an admin key or over the control socket.

Every way of being wrong has the same answer. What a credential may do is what its record says, and whose it is too.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from multidict import CIMultiDictProxy

from carrel.clock import Clock
from carrel.declare.admin_keys import EVERY, AdminKey, AdminScope, is_for, scopes_of
from carrel.errors import Forbidden, RateLimited, TenantNotReady, TenantSuspended, Unauthorized
from carrel.http.attempts import FailedAttempts
from carrel.http.services import TokenRecord, Tokens
from carrel.ids import TenantId
from carrel.tenancy.handle import Directory, Snapshot, Tenant
from carrel.tenancy.tokens import digest_of

MAX_CREDENTIAL: Final = 256
MAX_HELD: Final = 4096
_NO_KEY: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class _Narrowed:
    """A token's record with those of its scopes that its member's role allows."""

    tenant: TenantId
    name: str
    scopes: tuple[str, ...]
    expires: datetime | None
    prefix: str
    member: str | None

    @classmethod
    def of(cls, record: TokenRecord, scopes: tuple[str, ...]) -> "_Narrowed":
        return cls(record.tenant, record.name, scopes, record.expires, record.prefix, record.member)


class TenantCaller(NamedTuple):
    """A tenant, by the token whose record names it. ``credential`` is kept to ask again while a stream lives."""

    tenant: Tenant
    record: TokenRecord
    credential: str

    @property
    def label(self) -> str:
        """What logs may say of the credential."""
        return self.record.prefix

    @property
    def rights(self) -> object:
        """What it came with and what that allowed: two that are the same are judged the same."""
        return self.credential, self.record.scopes


@dataclass(frozen=True, slots=True)
class OperatorCaller:
    """An operator. ``credential`` is empty for a peer of the control socket.

    ``tenants`` are the patterns of the only tenants that it is for, None where it is for all.
    """

    name: str
    scopes: frozenset[AdminScope] = EVERY
    credential: str = ""
    tenants: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        """What logs may say of the credential."""
        return f"ak_{self.name}" if self.credential else self.name

    @property
    def rights(self) -> object:
        """As a tenant's."""
        return self.credential, self.scopes, self.tenants

    def sees(self, tenant: TenantId) -> bool:
        """Whether ``tenant`` exists for it."""
        return is_for(self.tenants, tenant)

    def covers(self, other: "OperatorCaller") -> bool:
        """Whether it may do all that ``other`` may."""
        return other.scopes <= self.scopes and self.tenants in (None, other.tenants)


Caller = TenantCaller | OperatorCaller


class _Held(NamedTuple):
    """What a token's record is worth under one revision: its tenant, None for nobody's, and what of it is allowed."""

    record: TokenRecord
    tenant: Tenant | None
    narrowed: TokenRecord


class Authenticator:
    """Turns the headers of a request into a caller, or refuses."""

    def __init__(self, *, directory: Directory, tokens: Tokens, clock: Clock, attempts: FailedAttempts) -> None:
        self._directory = directory
        self._tokens = tokens
        self._clock = clock
        self._attempts = attempts
        self._held: dict[str, _Held] = {}
        self._held_under: Snapshot | None = None

    def caller(
        self, headers: CIMultiDictProxy[str], snapshot: Snapshot, *, address: str, api_key_header: bool = False
    ) -> Caller:
        """The caller whose credential is in ``headers``; raises Unauthorized, or RateLimited after too many failures.

        ``api_key_header`` takes ``x-api-key`` too, as Anthropic's clients send it.
        """
        text = credential_in(headers, api_key_header=api_key_header)
        caller = self.known(text, snapshot)
        if caller is not None:
            return caller
        wait = self._attempts.record(address)
        if wait is not None:
            raise RateLimited("Too many failed attempts from this address.", retry_after=wait)
        raise Unauthorized

    def failed(self, address: str) -> float | None:
        """Note a wrong guess from ``address``; the seconds to wait where there were too many, else None."""
        return self._attempts.record(address)

    def still_valid(self, caller: Caller) -> bool:
        """Whether the credential would be let in now: asked again and again while a stream lives."""
        if not caller.credential:
            return True
        now = self.known(caller.credential, self._directory.current)
        if now is None:
            return False
        if isinstance(now, TenantCaller) and isinstance(caller, TenantCaller):
            # A role that allows less now ends what began when it allowed more.
            return not now.tenant.suspended and set(caller.record.scopes) <= set(now.record.scopes)
        # So does a key that is declared with less.
        return not (isinstance(now, OperatorCaller) and isinstance(caller, OperatorCaller)) or now.covers(caller)

    def known(self, text: str, snapshot: Snapshot) -> Caller | None:
        """Whose credential ``text`` is, None where it is nobody's; no failure is counted."""
        # Both stores are asked for every credential: which of them has it shows in neither answer nor time.
        digest = digest_of(text)
        record = self._tokens.of_digest(digest, self._clock.now())
        key = self._admin_key(digest, text, snapshot)
        if key is not None:
            return OperatorCaller(key.name, scopes_of(key.scopes), text, key.tenants)
        if record is None:
            return None
        held = self._held.get(digest) if self._held_under is snapshot else None
        if held is None or held.record is not record:
            held = self._hold(digest, record, snapshot)
        return None if held.tenant is None else TenantCaller(held.tenant, held.narrowed, text)

    def _hold(self, digest: str, record: TokenRecord, snapshot: Snapshot) -> "_Held":
        """What ``record`` is worth under ``snapshot``, kept by the token's whole digest until either is another."""
        tenant = snapshot.tenants.get(record.tenant)
        held = _Held(record, None, record)
        # A token of somebody who is no member any more is nobody's.
        if tenant is not None and tenant.has_member(record.member):
            scopes = tenant.allowed(record.scopes, record.member)
            narrowed = record if scopes == record.scopes else _Narrowed.of(record, scopes)
            held = _Held(record, tenant.as_member(record.member), narrowed)
        if self._held_under is not snapshot or len(self._held) >= MAX_HELD:
            self._held_under = snapshot
            self._held.clear()
        self._held[digest] = held
        return held

    def _admin_key(self, digest: str, text: str, snapshot: Snapshot) -> AdminKey | None:
        found: AdminKey | None = None
        hmac.compare_digest(digest, _NO_KEY)
        for key in snapshot.gateway.admin_keys:
            same = hmac.compare_digest(digest, key.sha256)
            if same and text.startswith(f"ak_{key.name}_"):
                found = key
        if found is not None and found.expires is not None and found.expires <= self._clock.now():
            return None
        return found


def credential_in(headers: CIMultiDictProxy[str], *, api_key_header: bool = False) -> str:
    """The one credential in ``headers``; empty, which no store knows, for none, several, or a malformed one."""
    given = headers.getall("Authorization", [])
    keys = headers.getall("x-api-key", []) if api_key_header else []
    if len(given) == 1 and not keys:
        return bearer_in(given[0])
    if len(keys) == 1 and not given:
        return _credential(keys[0].strip(" "))
    return ""


def bearer_in(authorization: str) -> str:
    """The credential in one Authorization header; empty for none, another scheme, or a malformed one."""
    scheme, _, text = authorization.partition(" ")
    return _credential(text.strip(" ")) if scheme.lower() == "bearer" else ""


def _credential(text: str) -> str:
    return text if len(text) <= MAX_CREDENTIAL and text.isascii() and text.isprintable() else ""


def require_tenant(caller: Caller, scope: str) -> TenantCaller:
    """``caller`` as a tenant that may use ``scope`` now; raises Forbidden, TenantSuspended or TenantNotReady."""
    if not isinstance(caller, TenantCaller):
        raise Forbidden("This endpoint takes a tenant's token; an admin key acts for a tenant under /v1/tenants/{id}/.")
    require_served(caller.tenant, "the operator can resume it", "the operator can see what is wrong with it")
    if scope not in caller.record.scopes:
        role = caller.tenant.role
        bound = f", or the role of {caller.tenant.member} ({role}) does not allow it" if role else ""
        raise Forbidden(f"This token does not have the scope {scope!r}{bound}.")
    return caller


def require_served(tenant: Tenant, resume: str, mend: str) -> None:
    """Raise TenantSuspended or TenantNotReady for a tenant that nothing runs for; the rest says what can be done."""
    if not tenant.ready:
        end = "" if mend.endswith("?") else "."
        raise TenantNotReady(f"This tenant's declaration is broken, and there was no good one before: {mend}{end}")
    if tenant.removed:
        raise TenantSuspended("This tenant is no longer declared: nothing runs for it, and its data is kept.")
    if tenant.suspended:
        raise TenantSuspended(f"This tenant is suspended; {resume}.")


def require_operator(caller: Caller, scope: AdminScope) -> OperatorCaller:
    """``caller`` as an operator with ``scope``; raises Forbidden, which names the scope that is missing."""
    if not isinstance(caller, OperatorCaller):
        raise Forbidden("This endpoint is the operator's: it takes an admin key, or the control socket.")
    if scope not in caller.scopes:
        message = (
            f"This admin key does not have the scope {scope!r}: the operator can give it to the key {caller.name!r} "
            "under admin_keys in _gateway.yaml."
        )
        raise Forbidden(message, details={"scope": scope})
    return caller
