"""What is kept of one connection, all of it sealed in one piece."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from carrel.errors import CarrelError

State = Literal["ok", "needs_relink"]


class ConnectionUnusable(CarrelError):
    """There is no such connection, or it has to be linked again. Says which, why, and how."""

    code = "connection_unusable"


class Connection(BaseModel):
    """One account of somebody's. ``member`` is whose it is, None where it is the whole tenant's.

    ``refreshing`` is set while the vendor is asked for a new token: with one that is left, a gateway ended meanwhile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    version: Literal[1] = 1
    name: str
    provider: str
    member: str | None = None
    account: Annotated[str, Field(max_length=200)] | None = None
    scopes: tuple[str, ...] = ()
    state: State = "ok"
    reason: Annotated[str, Field(max_length=1000)] | None = None
    linked: AwareDatetime
    linked_by: str
    expires: AwareDatetime | None = None
    refreshed: AwareDatetime | None = None
    refreshing: AwareDatetime | None = None
    access: str = Field(repr=False)
    refresh: str | None = Field(None, repr=False)

    def is_due(self, now: datetime, before: float) -> bool:
        """Whether it is time for a new token: it ends within ``before`` seconds."""
        return self.expires is not None and now >= self.expires - timedelta(seconds=before)

    def is_over(self, now: datetime) -> bool:
        """Whether its token has ended."""
        return self.expires is not None and now >= self.expires


def needs_relink(one: Connection) -> ConnectionUnusable:
    """The error of one that has to be linked again."""
    return ConnectionUnusable(f"The connection {one.name!r} has to be linked again: {one.reason}.")
