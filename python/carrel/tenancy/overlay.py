"""Tenants' overlays: ``config.yaml`` in the tenant's state directory, which only the gateway writes for it."""

import os
from pathlib import Path
from typing import Final

from carrel.declare.directory import MAX_TENANT_BYTES, Signature, signature_of
from carrel.errors import NotFound
from carrel.ids import TenantId
from carrel.tenancy.paths import TenantRoot

NAME: Final = "config.yaml"


class StateOverlays:
    """The overlays in a state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._tenants = state_dir / "tenants"

    def signature(self, tenant: TenantId) -> Signature | None:
        """What changes with the overlay; None where there is none."""
        try:
            # By text: for ten thousand tenants at a time, joining paths costs more than looking.
            return signature_of(os.lstat(f"{self._tenants}/{tenant}/{NAME}"))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, tenant: TenantId) -> bytes | None:
        """The overlay's bytes, None where there is none; raises UnsafePath where it is no plain file of ours."""
        try:
            root = TenantRoot.open(self._tenants / tenant)
        except FileNotFoundError:
            return None
        try:
            return root.read(NAME, limit=MAX_TENANT_BYTES)
        except NotFound:
            return None
        finally:
            root.close()

    def write(self, tenant: TenantId, data: bytes) -> None:
        """Put ``data`` in place of the overlay, whole or not at all; raises StorageFull."""
        root = TenantRoot.open(self._tenants / tenant)
        try:
            root.replace(NAME, data)
        finally:
            root.close()
