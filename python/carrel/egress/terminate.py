"""TLS ended in the gateway, on a connection of which the first bytes were read already."""

import asyncio
import ssl
from asyncio import sslproto
from typing import Final

HANDSHAKE_SECONDS: Final = 15
SHUTDOWN_SECONDS: Final = 2


def end_tls(
    transport: asyncio.Transport, first: bytes, context: ssl.SSLContext, protocol: asyncio.Protocol
) -> None:  # fmt: skip
    """Give ``protocol`` what is said inside of the TLS that begins with ``first``.

    `loop.start_tls` waits for bytes that have come already, for ever; here they are handed to the layer that it is made
    of.
    """
    loop = asyncio.get_running_loop()
    shaken: asyncio.Future[None] = loop.create_future()
    # A handshake that fails ends the connection, and that is all there is to do about it.
    shaken.add_done_callback(lambda done: done.cancelled() or done.exception())
    layer = sslproto.SSLProtocol(
        loop, protocol, context, shaken, server_side=True, call_connection_made=True,
        ssl_handshake_timeout=HANDSHAKE_SECONDS, ssl_shutdown_timeout=SHUTDOWN_SECONDS,
    )  # fmt: skip
    transport.pause_reading()
    transport.set_protocol(layer)
    layer.connection_made(transport)
    view = memoryview(first)
    while view:
        room = layer.get_buffer(len(view))
        count = min(len(room), len(view))
        room[:count] = view[:count]
        layer.buffer_updated(count)
        view = view[count:]
    transport.resume_reading()
