"""Tenant tokens: made here, kept by their SHA-256 alone, and looked up by the whole digest.

A token is ``tk_<tenant>_<32 lower-case hex>``. Those that commands issue live in the tenant's
``credentials/tokens.json``; those that YAML declares come with each snapshot. Which tenant a token is for, what it may
do and until when is what its record says, never what its text says.
"""

import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from carrel.clock import Clock
from carrel.declare.base import Digest, Name, Scope
from carrel.errors import CarrelError, Conflict, InvalidRequest, NotFound, StorageFailed, Unavailable
from carrel.ids import TenantId, parse_tenant_id
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.tenancy.paths import TenantRoot

DEFAULT_TOKEN: Final = "default"  # noqa: S105 - a name
_FILE: Final = "credentials/tokens.json"
_MAX_FILE: Final = 1 << 20
_MAX_TOKENS: Final = 200
_NOBODY: Final = "0" * 64


_Signature = tuple[int, int, int] | None
"""What changes with a tenant's file; None where there is none."""


def digest_of(text: str) -> str:
    """The SHA-256 of a credential, as it is kept: lower-case hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class TokensUnreadable(CarrelError):
    """A tenant's file of tokens is damaged; its tokens are refused and nothing in it is overwritten."""

    code = "tokens_unreadable"


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What is known of a token. ``prefix`` is all of its text that may be shown, ``member`` whose it is."""

    tenant: TenantId
    name: str
    sha256: str
    scopes: tuple[Scope, ...]
    expires: datetime | None
    created_at: datetime | None
    source: Literal["issued", "declared"]
    member: str | None = None

    @property
    def prefix(self) -> str:
        return f"tk_{self.tenant}_"


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: Name
    sha256: Digest
    scopes: tuple[Scope, ...]
    expires: AwareDatetime | None
    created_at: AwareDatetime
    member: Name | None = None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    version: Literal[1] = 1
    tokens: Annotated[tuple[_Stored, ...], Field(max_length=_MAX_TOKENS)] = ()


class TokenStore:
    """Every tenant's tokens. ``load`` reads the issued ones at the start, ``declare`` takes a snapshot's.

    Changes are on disk before they are told; file work is short and is done by ``asyncio.to_thread`` by the callers.
    """

    def __init__(self, *, state_dir: Path, clock: Clock) -> None:
        self._state_dir = state_dir
        self._clock = clock
        self._issued: dict[TenantId, dict[str, TokenRecord]] = {}
        self._declared: dict[str, TokenRecord] = {}
        self._by_digest: dict[str, TokenRecord] = {}
        self._damaged: set[TenantId] = set()
        self._files: dict[TenantId, _Signature] = {}
        self._changing = threading.Lock()

    def load(self) -> list[str]:
        """Read what was issued before; gives a sentence for each tenant whose file cannot be used."""
        problems: list[str] = []
        tenants = self._state_dir / "tenants"
        if not tenants.is_dir():
            return problems
        with os.scandir(tenants) as entries:
            names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        for name in names:
            try:
                tenant = parse_tenant_id(name)
                self._files[tenant] = self._signature(tenant)
                records = read_issued(tenants / name, tenant)
            except InvalidRequest:
                continue
            except TokensUnreadable as error:
                self._mark_damaged(tenant, error)
                problems.append(error.message)
                continue
            if records:
                self._issued[tenant] = records
        self._index()
        return problems

    def declare(self, snapshot: Snapshot) -> None:
        """Take the tokens that ``snapshot`` declares in place of those declared before."""
        declared = {
            token.sha256: TokenRecord(
                tenant.id, token.name, token.sha256, token.scopes, token.expires, None, "declared", token.member
            )
            for tenant in snapshot.tenants.values()
            for token in tenant.config.tokens
        }
        with self._changing:
            self._declared = declared
            self._index()

    def verify(self, text: str, now: datetime) -> TokenRecord | None:
        """The record of the token ``text``, None where it is unknown or expired. A miss costs what a hit costs."""
        return self.of_digest(digest_of(text), now)

    def of_digest(self, digest: str, now: datetime) -> TokenRecord | None:
        """`verify` for who has the token's digest."""
        record = self._by_digest.get(digest)
        known = hmac.compare_digest(digest, record.sha256 if record is not None else _NOBODY)
        if record is None or not known or (record.expires is not None and record.expires <= now):
            return None
        return record

    def list(self, tenant: Tenant) -> Sequence[TokenRecord]:
        """The tenant's tokens, issued ones first, by name."""
        declared = [r for r in self._declared.values() if r.tenant == tenant.id]
        issued = self._issued.get(tenant.id, {}).values()
        return [*sorted(issued, key=lambda r: r.name), *sorted(declared, key=lambda r: r.name)]

    def issue(
        self,
        tenant: Tenant,
        *,
        name: str = DEFAULT_TOKEN,
        scopes: tuple[Scope, ...] = ("chat", "rpc", "admin"),
        expires: datetime | None = None,
        member: str | None = None,
    ) -> tuple[str, TokenRecord]:
        """A new token, told this once; raises Conflict where the name is taken."""
        mine = self._issued.get(tenant.id, {})
        if name in mine or any(r.name == name for r in self.list(tenant)):
            raise Conflict(f"There is a token {name!r} already: rotate it, or choose another name.")
        return self._put(tenant, name, scopes, expires, member)

    def rotate(self, tenant: Tenant, *, name: str = DEFAULT_TOKEN) -> tuple[str, TokenRecord]:
        """A new secret for the token ``name``, the old one ending; the first rotate of ``default`` issues it."""
        self._refuse_declared(tenant, name)
        old = self._issued.get(tenant.id, {}).get(name)
        if old is None and name != DEFAULT_TOKEN:
            raise NotFound(f"There is no token {name!r}.")
        if old is None:
            return self._put(tenant, name, ("chat", "rpc", "admin"), None)
        if old.expires is not None and old.expires <= self._clock.now():
            raise Conflict(f"The token {name!r} has expired: revoke it and issue another.")
        return self._put(tenant, name, old.scopes, old.expires, old.member)

    def revoke(self, tenant: Tenant, name: str) -> TokenRecord:
        """End the token ``name``; raises NotFound, or Conflict for one that YAML declares."""
        self._refuse_declared(tenant, name)
        mine = dict(self._issued.get(tenant.id, {}))
        ended = mine.pop(name, None)
        if ended is None:
            raise NotFound(f"There is no token {name!r}.")
        self._save(tenant, mine)
        return ended

    def _refuse_declared(self, tenant: Tenant, name: str) -> None:
        if any(r.name == name and r.source == "declared" for r in self.list(tenant)):
            raise Conflict(
                f"The token {name!r} is declared in {tenant.id}.yaml: change or remove its digest there.",
                details={"file": f"{tenant.id}.yaml"},
            )

    def _put(
        self, tenant: Tenant, name: str, scopes: tuple[Scope, ...], expires: datetime | None, member: str | None = None
    ) -> tuple[str, TokenRecord]:
        text = f"tk_{tenant.id}_{secrets.token_hex(16)}"
        record = TokenRecord(tenant.id, name, digest_of(text), scopes, expires, self._clock.now(), "issued", member)
        mine = {**self._issued.get(tenant.id, {}), name: record}
        if len(mine) > _MAX_TOKENS:
            raise Conflict(f"A tenant has at most {_MAX_TOKENS} tokens: revoke one first.")
        self._save(tenant, mine)
        return text, record

    def _save(self, tenant: Tenant, records: dict[str, TokenRecord]) -> None:
        if tenant.id in self._damaged:
            raise TokensUnreadable(f"The tokens of {tenant.id} cannot be read: mend or remove {_FILE} and restart.")
        stored = _File(
            tokens=tuple(
                _Stored.model_validate(
                    {
                        "name": r.name,
                        "sha256": r.sha256,
                        "scopes": r.scopes,
                        "expires": r.expires,
                        "created_at": r.created_at,
                        "member": r.member,
                    }
                )
                for r in records.values()
            )
        )
        with self._changing:  # who looks whether the file was changed from outside must not see half of this
            tenant.root.replace(_FILE, stored.model_dump_json(indent=1).encode())
            self._files[tenant.id] = self._signature(tenant.id)
        with self._changing:
            self._issued[tenant.id] = records
            self._index()

    # --- files that others changed ---

    def drifted(self, tenant: TenantId) -> bool:
        """Whether the tenant's file is not as it was last read or written here."""
        with self._changing:
            return self._signature(tenant) != self._files.get(tenant)

    def reload(self, tenant: TenantId) -> None:
        """Read a tenant's issued tokens anew, after its file or its directory was replaced.

        Raises TokensUnreadable; its tokens are then refused.
        """
        with self._changing:
            self._files[tenant] = self._signature(tenant)
            self._damaged.discard(tenant)
            self._issued.pop(tenant, None)
            try:
                records = read_issued(self._state_dir / "tenants" / tenant, tenant)
            except FileNotFoundError:
                return
            except TokensUnreadable as error:
                self._mark_damaged(tenant, error)
                raise
            else:
                if records:
                    self._issued[tenant] = records
            finally:
                self._index()

    def forget(self, tenant: TenantId) -> None:
        """The tenant was deleted: a token of it is worth nothing, also for a new tenant of that name."""
        with self._changing:
            self._damaged.discard(tenant)
            self._files.pop(tenant, None)
            self._issued.pop(tenant, None)
            self._index()

    def _mark_damaged(self, tenant: TenantId, error: TokensUnreadable) -> None:
        self._damaged.add(tenant)
        if isinstance(error.__cause__, StorageFailed | Unavailable):
            # The file may be whole: who looks whether it was changed sees that it was not read yet.
            self._files.pop(tenant, None)

    def _signature(self, tenant: TenantId) -> "_Signature":
        try:
            found = os.lstat(f"{self._state_dir}/tenants/{tenant}/{_FILE}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _index(self) -> None:
        """One new table swapped in whole: a reader sees the old one or the new one."""
        issued: Iterable[TokenRecord] = (r for mine in self._issued.values() for r in mine.values())
        self._by_digest = {**self._declared, **{r.sha256: r for r in issued}}


def read_issued(path: Path, tenant: TenantId) -> dict[str, TokenRecord]:
    """The tokens that commands issued to ``tenant``, whose directory is ``path``, by name. Changes nothing.

    Raises TokensUnreadable, and OSError where the directory cannot be opened.
    """
    root = TenantRoot.open(path)
    try:
        stored = _File.model_validate_json(root.read(_FILE, limit=_MAX_FILE))
    except NotFound:
        return {}
    except (ValidationError, CarrelError) as error:
        why = error.message.rstrip(".") if isinstance(error, CarrelError) else "They are not as they were written"
        raise TokensUnreadable(
            f"The tokens of {tenant} cannot be read, so all of them are refused: mend or remove its {_FILE}. {why}."
        ) from error
    finally:
        root.close()
    return {
        t.name: TokenRecord(tenant, t.name, t.sha256, t.scopes, t.expires, t.created_at, "issued", t.member)
        for t in stored.tokens
    }
