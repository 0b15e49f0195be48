"""What is kept of a tenant's devices, and of what waits to be paired."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from carrel.declare.base import Scope
from carrel.ids import TenantId

Role = Literal["operator", "node"]


class Device(BaseModel):
    """A paired device. ``scopes`` are its token's; ``revoked`` where it has none any more."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    id: str
    name: Annotated[str, Field(max_length=200)]
    platform: Annotated[str, Field(max_length=200)] = ""
    role: Role
    scopes: tuple[Scope, ...]
    member: str | None = None
    paired: AwareDatetime
    paired_by: str
    rotated: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    @property
    def token_name(self) -> str:
        """What its token is called among the tenant's."""
        return token_name(self.id)


class DeviceBook(BaseModel):
    """All devices of a tenant."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    version: Literal[1] = 1
    devices: Annotated[tuple[Device, ...], Field(max_length=200)] = ()


@dataclass(frozen=True, slots=True)
class Code:
    """A short code that pairs one device, once, until ``expires``."""

    text: str
    tenant: TenantId
    member: str | None
    role: Role
    expires: datetime


@dataclass(frozen=True, slots=True)
class Asked:
    """A device that waits to be paired. ``decision`` is None until somebody decides."""

    id: str
    tenant: TenantId
    member: str | None
    name: str
    platform: str
    role: Role
    secret: str
    asked: datetime
    expires: datetime
    decision: Literal["approved", "rejected"] | None = None
    device: Device | None = None


def token_name(device_id: str) -> str:
    """What the token of a device is called."""
    return f"device-{device_id.removeprefix('dev_')}"


def device_of(name: str | None) -> str | None:
    """The device whose token is called ``name``, None where it is no device's."""
    return f"dev_{name.removeprefix('device-')}" if name is not None and name.startswith("device-") else None
