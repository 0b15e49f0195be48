"""The models of logging in with a browser."""

from pydantic import BaseModel, ConfigDict, Field


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class BrowserView(_View):
    """A browser that is logged in."""

    tenant: str
    display_name: str | None = None
    member: str | None = None
    csrf: str = Field(description="What a change carries in the header X-Carrel-CSRF.")


class Ticket(_View):
    """What opens one WebSocket: as the subprotocol `carrel.ticket.TICKET`, beside `carrel.v1`."""

    ticket: str
    expires_in: int = Field(description="Seconds.")
