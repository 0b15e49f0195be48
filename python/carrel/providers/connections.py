"""What both SDKs' HTTP clients are made with: no time-outs of their own beyond connecting, bounded connections."""

import ssl
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from carrel.declare.gateway import ProviderConfig

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS: Final = 10.0
KEEPALIVE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """``timeout`` is for the SDK, ``client`` are the arguments of its HTTP client."""

    timeout: "httpx2.Timeout"
    client: dict[str, Any]


@cache
def shared_tls() -> ssl.SSLContext:
    """One TLS context for every client: to load the machine's certificates again for each costs time and memory."""
    return ssl.create_default_context()


def client_options(config: ProviderConfig, tls: ssl.SSLContext | None) -> ClientOptions:
    """Options for the client of ``config``. Blocks: imports the HTTP client and loads certificates at first use."""
    import httpx2  # noqa: PLC0415 - comes with the SDKs and is as late as they are

    timeout = httpx2.Timeout(None, connect=min(CONNECT_SECONDS, config.first_byte_seconds))
    limits = httpx2.Limits(
        max_connections=config.max_connections,
        max_keepalive_connections=min(config.max_connections, 64),
        keepalive_expiry=KEEPALIVE_SECONDS,
    )
    client = {"timeout": timeout, "limits": limits, "verify": tls or shared_tls(), "follow_redirects": False}
    return ClientOptions(timeout, client)


def transport_errors() -> tuple[type[Exception], ...]:
    """What the HTTP client raises when a connection is lost while an answer is read."""
    import httpx2  # noqa: PLC0415 - loaded by now

    return (httpx2.TransportError, httpx2.StreamError)
