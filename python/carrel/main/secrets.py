"""A tenant's secrets: its vault's first, then the operator's; and what an operator does to a vault."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from carrel.audit.log import Audit
from carrel.errors import NotFound
from carrel.secrets import Secret, SecretStore
from carrel.tenancy.handle import Tenant
from carrel.vault.vault import SecretInfo, Vault
from carrel.wire import control

T = TypeVar("T")


class TenantSecrets:
    """Looks up what a tenant's declaration names."""

    def __init__(self, *, vault: Vault, store: SecretStore) -> None:
        self._vault = vault
        self._store = store

    def of(self, tenant: Tenant, name: str) -> Secret:
        """The secret that ``tenant`` means by ``name``; raises SecretMissing. Blocking."""
        try:
            return self._vault.get(tenant, name)
        except NotFound:
            return self._store.get(name)

    async def get(self, tenant: Tenant, name: str) -> Secret:
        """The same, in a thread."""
        return await asyncio.to_thread(self.of, tenant, name)


class SecretKeeping:
    """The control plane of vaults: values go in and never come out. Each change has its audit line."""

    def __init__(self, *, vault: Vault, audit: Audit, others: Sequence[Vault] = ()) -> None:
        """``others`` are the vaults of rooms of the gateway: their contents are sealed anew with the rest."""
        self._vault = vault
        self._others = others
        self._audit = audit

    async def list(self, tenant: Tenant) -> control.SecretList:
        """A tenant's secrets by name."""
        infos = await asyncio.to_thread(self._vault.list, tenant)
        return control.SecretList(secrets=tuple(map(_view, infos)))

    async def put(
        self, tenant: Tenant, name: str, order: control.SecretPut, *, by: control.Actor
    ) -> control.SecretView:
        """Keep a value."""
        action = "secrets.rotate" if order.must_exist else "secrets.set"
        value = order.value.get_secret_value()

        async def work() -> SecretInfo:
            return await asyncio.to_thread(
                lambda: self._vault.set(tenant, name, value, must_exist=order.must_exist)
            )  # fmt: skip

        return _view(await self._noted(action, tenant, name, by, work))

    async def remove(self, tenant: Tenant, name: str, *, by: control.Actor) -> None:
        """Forget one."""

        async def work() -> None:
            await asyncio.to_thread(self._vault.remove, tenant, name)

        await self._noted("secrets.remove", tenant, name, by, work)

    async def reseal(self, tenant: Tenant, *, by: control.Actor) -> control.SecretsResealed:
        """Seal with the newest key what is sealed with an older one."""

        async def work() -> int:
            return sum([await asyncio.to_thread(vault.reseal, tenant) for vault in (self._vault, *self._others)])

        return control.SecretsResealed(count=await self._noted("secrets.reseal", tenant, tenant.id, by, work))

    async def _noted(
        self, action: str, tenant: Tenant, target: str, by: control.Actor, work: Callable[[], Awaitable[T]]
    ) -> T:
        async with self._audit.change(
            actor=by.name, action=action, target=target[:64], tenant=tenant.id, request_id=by.request_id
        ):
            return await work()


def _view(info: SecretInfo) -> control.SecretView:
    return control.SecretView(
        name=info.name, version=info.version, key_version=info.key_version, created=info.created, updated=info.updated
    )
