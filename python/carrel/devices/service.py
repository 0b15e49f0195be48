"""Pairing: who asks, who decides, and the token that follows. What waits is in memory; what is paired is kept.

A code is a secret of ten minutes that one device may use once; what it leads to is a request that a person of the
tenant decides. Only who asked, and holds the request's secret, gets the token, and it is made when it is fetched: it is
nowhere in the clear before.
"""

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, Protocol

from carrel.clock import Clock
from carrel.declare.base import Scope
from carrel.devices.book import Asked, Code, Device, DeviceBook, Role, token_name
from carrel.errors import Conflict, InvalidRequest, NotFound, RateLimited
from carrel.events.hub import Hub
from carrel.ids import TenantId
from carrel.tenancy.documents import Documents
from carrel.tenancy.handle import Directory, Tenant

ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"
"""Without what is mistaken for something else."""
CODE_LENGTH: Final = 8
CODE_LIFE: Final = timedelta(minutes=10)
REQUEST_LIFE: Final = timedelta(hours=1)
MOST_WAITING: Final = 20
MOST_DEVICES: Final = 100
OPERATOR_SCOPES: Final[tuple[Scope, ...]] = ("chat", "rpc")


class Record(Protocol):
    """What a token is."""

    @property
    def tenant(self) -> TenantId: ...
    @property
    def name(self) -> str: ...


class Tokens(Protocol):
    """Tenants' tokens."""

    def issue(
        self, tenant: Tenant, *, name: str, scopes: tuple[Scope, ...], member: str | None
    ) -> tuple[str, object]:  # fmt: skip
        """A new one; raises Conflict."""
        ...

    def rotate(self, tenant: Tenant, *, name: str) -> tuple[str, object]:
        """A new secret for one; raises NotFound."""
        ...

    def revoke(self, tenant: Tenant, name: str) -> object:
        """End one; raises NotFound."""
        ...

    def verify(self, text: str, now: datetime) -> Record | None:
        """The record of one that is good."""
        ...


class Devices:
    """All tenants' devices. One instance, made by the composition root."""

    def __init__(self, *, directory: Directory, clock: Clock, hub: Hub, tokens: Tokens) -> None:
        self._directory = directory
        self._clock = clock
        self._hub = hub
        self._tokens = tokens
        self._books = Documents("devices/devices.json", DeviceBook)
        self._codes: dict[str, Code] = {}
        self._asked: dict[str, Asked] = {}
        self._claiming = asyncio.Lock()

    # --- asking ---

    def make_code(self, tenant: Tenant, *, role: Role) -> Code:
        """A code that pairs one device with ``tenant``, for its member where it is used for one."""
        self._tidy()
        if sum(code.tenant == tenant.id for code in self._codes.values()) >= MOST_WAITING:
            raise RateLimited(f"{MOST_WAITING} codes are good already.", retry_after=60.0)
        text = "".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH))
        code = Code(text, tenant.id, tenant.member, role, self._clock.now() + CODE_LIFE)
        self._codes[_digest(text)] = code
        return code

    def use_code(self, text: str, *, request_id: str, name: str, platform: str) -> tuple[Asked, str]:
        """Ask to be paired by a code, which is used up; the request, and its secret. Raises NotFound."""
        self._tidy()
        code = self._codes.pop(_digest(text.strip().upper().replace("-", "")), None)
        tenant = None if code is None else self._directory.current.tenants.get(code.tenant)
        if code is None or tenant is None or tenant.suspended:
            raise NotFound("That code is not known, was used, or is over: ask for a new one.")
        return self.ask(tenant, request_id=request_id, name=name, platform=platform, role=code.role, member=code.member)

    def ask(
        self, tenant: Tenant, *, request_id: str, name: str, platform: str, role: Role, member: str | None
    ) -> tuple[Asked, str]:
        """Ask to be paired with ``tenant``; the request, and the secret that alone fetches its token."""
        self._tidy()
        if sum(one.tenant == tenant.id and one.decision is None for one in self._asked.values()) >= MOST_WAITING:
            raise RateLimited(f"{MOST_WAITING} devices wait for a decision already.", retry_after=60.0)
        secret, now = secrets.token_hex(16), self._clock.now()
        asked = Asked(
            request_id, tenant.id, member, name, platform, role, _digest(secret), now, now + REQUEST_LIFE
        )  # fmt: skip
        self._asked[request_id] = asked
        about = {"requestId": asked.id, "name": name, "platform": platform, "role": role}
        self._hub.publish(tenant, "device.pair.requested", about, own=self._own(tenant, member))
        return asked, secret

    def whose(self, request_id: str) -> TenantId | None:
        """The tenant that a request to be paired is for, None where there is no such request."""
        asked = self._asked.get(request_id)
        return asked.tenant if asked is not None else None

    # --- deciding ---

    def waiting(self, tenant: Tenant) -> Sequence[Asked]:
        """What waits for a decision of the tenant, oldest first."""
        self._tidy()
        found = [one for one in self._asked.values() if one.tenant == tenant.id and one.decision is None]
        return sorted((one for one in found if _sees(tenant, one.member)), key=lambda one: (one.asked, one.id))

    async def approve(
        self, tenant: Tenant, request_id: str, *, scopes: tuple[Scope, ...] | None, by: str, role: Role | None = None
    ) -> Device:
        """Pair what waits; it fetches its token itself. Raises NotFound, Conflict, InvalidRequest."""
        asked = self._waiting_one(tenant, request_id, role)
        chosen = ("node",) if asked.role == "node" else scopes or OPERATOR_SCOPES
        if asked.role == "node" and scopes not in (None, ("node",)):
            raise InvalidRequest("A node has the scope `node` and no other.", param="scopes")
        if "node" in chosen and asked.role != "node":
            raise InvalidRequest("The scope `node` is for nodes.", param="scopes")
        device = Device(
            id=f"dev_{secrets.token_hex(8)}", name=asked.name, platform=asked.platform, role=asked.role, scopes=chosen,
            member=asked.member, paired=self._clock.now(), paired_by=by,
        )  # fmt: skip

        def add(book: DeviceBook) -> DeviceBook:
            if len(book.devices) >= MOST_DEVICES:
                raise Conflict(f"A tenant has at most {MOST_DEVICES} devices: remove one first.")
            return book.model_copy(update={"devices": (*book.devices, device)})

        await self._books.change(tenant, add)
        self._asked[request_id] = replace(asked, decision="approved", device=device)
        self._tell(tenant, device, "paired", {"requestId": request_id})
        return device

    def reject(self, tenant: Tenant, request_id: str, *, role: Role | None = None) -> Asked:
        """Refuse what waits; raises NotFound."""
        asked = self._waiting_one(tenant, request_id, role)
        self._asked[request_id] = replace(asked, decision="rejected")
        about = {"requestId": asked.id, "name": asked.name, "role": asked.role}
        self._hub.publish(tenant, "device.pair.rejected", about, own=self._own(tenant, asked.member))
        return asked

    # --- fetching ---

    async def claim(
        self, request_id: str, secret: str, *, tenant_id: TenantId | None = None
    ) -> tuple[str, Device | None, str | None]:
        """How a request stands, for who holds its secret: `waiting`, `rejected`, or `approved` with device and token.

        Fetched again while the request lasts, the token is another one and the one before is over. Raises NotFound.
        """
        async with self._claiming:
            self._tidy()
            asked = self._asked.get(request_id)
            known = hmac.compare_digest(_digest(secret), asked.secret if asked is not None else "0" * 64)
            if asked is None or not known or tenant_id not in (None, asked.tenant):
                raise NotFound("There is no such request to be paired, or it is over.")
            if asked.decision != "approved" or asked.device is None:
                return "rejected" if asked.decision else "waiting", None, None
            tenant = self._directory.current.tenant(asked.tenant)
            device = await self.get(tenant, asked.device.id)
            if device.revoked is not None:
                raise NotFound("There is no such request to be paired, or it is over.")
            return "approved", device, await asyncio.to_thread(self._new_token, tenant, device)

    # --- what is paired ---

    async def list(self, tenant: Tenant, *, role: Role | None = None) -> Sequence[Device]:
        """The tenant's devices; a member's own where members have what is theirs."""
        book = await self._books.read(tenant)
        return [one for one in book.devices if role in (None, one.role) and _sees(tenant, one.member)]

    async def get(self, tenant: Tenant, device_id: str, *, role: Role | None = None) -> Device:
        """One device; raises NotFound."""
        found = next((one for one in await self.list(tenant, role=role) if one.id == device_id), None)
        if found is None:
            raise NotFound("There is no such device.")
        return found

    async def holder(self, tenant: Tenant, node_id: str, token: str) -> Device | None:
        """The node ``node_id`` where ``token`` is its own and good; None for all else, whatever it is."""
        record = self._tokens.verify(token, self._clock.now())
        found = next((one for one in await self.list(tenant, role="node") if one.id == node_id), None)
        if found is None or record is None or (record.tenant, record.name) != (tenant.id, found.token_name):
            return None
        return found

    async def rename(self, tenant: Tenant, device_id: str, name: str, *, role: Role | None = None) -> Device:
        """Call a device something else."""
        await self.get(tenant, device_id, role=role)
        return await self._changed(tenant, device_id, {"name": name}, "renamed")

    async def rotate(self, tenant: Tenant, device_id: str) -> tuple[Device, str]:
        """A new token for a device, shown this once; the old one ends with its connections."""
        device = await self.get(tenant, device_id)
        token = await asyncio.to_thread(self._new_token, tenant, device)
        changes: dict[str, object] = {"rotated": self._clock.now(), "revoked": None}
        return await self._changed(tenant, device_id, changes, "rotated"), token

    async def revoke(self, tenant: Tenant, device_id: str) -> Device:
        """End a device's token; its connections end with it."""
        device = await self.get(tenant, device_id)
        with contextlib.suppress(NotFound):
            await asyncio.to_thread(self._tokens.revoke, tenant, device.token_name)
        return await self._changed(tenant, device_id, {"revoked": self._clock.now()}, "revoked")

    def _new_token(self, tenant: Tenant, device: Device) -> str:
        try:
            return self._tokens.rotate(tenant, name=token_name(device.id))[0]
        except NotFound:
            issued = self._tokens.issue(
                tenant, name=token_name(device.id), scopes=device.scopes, member=device.member
            )  # fmt: skip
            return issued[0]

    async def _changed(self, tenant: Tenant, device_id: str, changes: dict[str, object], what: str) -> Device:
        def change(book: DeviceBook) -> DeviceBook:
            devices = tuple(one.model_copy(update=changes) if one.id == device_id else one for one in book.devices)
            return book.model_copy(update={"devices": devices})

        book = await self._books.change(tenant, change)
        device = next(one for one in book.devices if one.id == device_id)
        self._tell(tenant, device, what)
        return device

    def _waiting_one(self, tenant: Tenant, request_id: str, role: Role | None) -> Asked:
        for asked in self.waiting(tenant):
            if asked.id == request_id and role in (None, asked.role):
                return asked
        raise NotFound("There is no such request to be paired, or it is over.")

    def _tidy(self) -> None:
        """Forget what is over."""
        now = self._clock.now()
        self._codes = {key: code for key, code in self._codes.items() if code.expires > now}
        self._asked = {key: asked for key, asked in self._asked.items() if asked.expires > now}

    def _tell(self, tenant: Tenant, device: Device, what: str, more: Mapping[str, str] = MappingProxyType({})) -> None:
        about = {"deviceId": device.id, "name": device.name, "role": device.role, **more}
        self._hub.publish(tenant, f"device.{what}", about, own=self._own(tenant, device.member))

    @staticmethod
    def _own(tenant: Tenant, member: str | None) -> str | None:
        return member if tenant.config.sandbox.scope == "member" else None


def _sees(tenant: Tenant, member: str | None) -> bool:
    return tenant.own is None or member == tenant.own


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
