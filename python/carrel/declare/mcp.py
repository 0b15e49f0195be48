"""MCP servers that a tenant's programs reach through the gateway, which puts the credential in."""

from typing import Annotated

from pydantic import Field, model_validator

from carrel.declare.base import Declared, Name, Seconds
from carrel.declare.egress import HeaderName, Network
from carrel.declare.oauth import Template, Url
from carrel.secrets import SECRET_NAME_PATTERN


class McpServer(Declared):
    """One server that speaks MCP over streamable HTTP, at `/mcp/NAME` of the gateway."""

    url: Url = Field(description="The server's MCP endpoint, at a host that `mcp_servers` of `_allowlists.yaml` has.")
    secret: Annotated[str, Field(pattern=SECRET_NAME_PATTERN)] | None = Field(
        None, description="A secret, in the tenant's vault or the operator's secrets, that is sent to it."
    )
    header: HeaderName = Field("Authorization", description="The header that the secret stands in.")
    template: Template = Field("Bearer {}", description="What that header is, with `{}` for the secret.")
    connection: Name | None = Field(
        None, description="A connection whose token is sent to it, as its provider's `allow` says."
    )
    provider: Name | None = Field(None, description="The connection's provider. Default: the connection's own name.")
    addresses: Annotated[tuple[Network, ...], Field(max_length=64)] = Field(
        (), description="Private addresses, as CIDR, that its host may have; without it they are refused."
    )
    max_message_bytes: Annotated[int, Field(ge=1 << 10, le=64 << 20)] = Field(
        4 << 20, description="The largest message, in either direction."
    )
    answer_seconds: Seconds = Field(
        300.0, description="How long it may say nothing before an answer is given up; a standing stream has no end."
    )
    agents: tuple[Name, ...] = Field(
        (), description="Agents whose sandboxes reach it; all of them where none is named."
    )

    @model_validator(mode="after")
    def _one_credential(self) -> "McpServer":
        if self.secret is not None and self.connection is not None:
            raise ValueError("name one of `secret` and `connection`, or neither")
        if self.provider is not None and self.connection is None:
            raise ValueError("`provider` goes with `connection`")
        return self
