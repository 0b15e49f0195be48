"""The words that wake a tenant's devices: one list, pushed to devices and nodes when it changes."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from carrel.clock import Clock
from carrel.devices.nodes import Nodes
from carrel.errors import InvalidRequest
from carrel.events.hub import Hub
from carrel.tenancy.documents import Documents
from carrel.tenancy.handle import Tenant

DEFAULT: Final = ("carrel", "computer")
MOST: Final = 32
LONGEST: Final = 64


class Wake(BaseModel):
    """The words, and when they were set."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    version: Literal[1] = 1
    triggers: Annotated[tuple[str, ...], Field(max_length=MOST)] = DEFAULT
    updated: AwareDatetime | None = None


class VoiceWake:
    """All tenants' words."""

    def __init__(self, *, clock: Clock, hub: Hub, nodes: Nodes) -> None:
        self._clock = clock
        self._hub = hub
        self._nodes = nodes
        self._documents = Documents("devices/voicewake.json", Wake)

    async def get(self, tenant: Tenant) -> Wake:
        """The words as they are."""
        return await self._documents.read(tenant)

    async def set(self, tenant: Tenant, triggers: tuple[str, ...]) -> Wake:
        """Set the words, and push them; no word at all is the default ones. Raises InvalidRequest."""
        words = tuple(dict.fromkeys(" ".join(word.split()) for word in triggers))
        chosen = tuple(word for word in words if word)
        if len(chosen) > MOST or any(len(word) > LONGEST or not word.isprintable() for word in chosen):
            raise InvalidRequest(f"At most {MOST} words of at most {LONGEST} characters.", param="triggers")
        now: datetime = self._clock.now()
        made = await self._documents.change(
            tenant, lambda _: Wake(triggers=chosen or DEFAULT, updated=now)
        )  # fmt: skip
        told = {"triggers": list(made.triggers)}
        self._hub.publish(tenant, "voicewake.changed", told)
        self._nodes.tell(tenant, "voicewake.changed", told)
        return made
