"""Connections to one upstream, kept open between calls, bounded in number."""

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass

from carrel.errors import UpstreamTimeout
from carrel.providers.connections import CONNECT_SECONDS, KEEPALIVE_SECONDS
from carrel.providers.failures import connection_error
from carrel.relay.connection import Connection


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a provider is. ``provider`` is the name that errors give it."""

    provider: str
    host: str
    port: int
    tls: ssl.SSLContext | None


class Pool:
    """The connections to one origin."""

    def __init__(self, origin: Origin, *, limit: int) -> None:
        self.limit = limit
        self._origin = origin
        self._loop = asyncio.get_running_loop()
        self._idle: deque[Connection] = deque()
        self._busy: set[Connection] = set()
        self._connecting = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._reaper: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def open_connections(self) -> int:
        """How many are open or being opened."""
        return len(self._idle) + len(self._busy) + self._connecting

    def take_idle(self) -> Connection | None:
        """An open connection that nobody uses, the last used first; None where there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                self._busy.add(connection)
                return connection
            connection.abort()
        return None

    async def take(self, *, deadline: float, fresh: bool = False) -> Connection:
        """A connection, idle or new; waits for one where there are too many. Raises UpstreamError, UpstreamTimeout."""
        while True:
            connection = None if fresh else self.take_idle()
            if connection is not None:
                return connection
            if len(self._busy) + self._connecting < self.limit:
                return await self._connect(deadline)
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                async with asyncio.timeout_at(deadline):
                    await waiter
            except TimeoutError:
                raise UpstreamTimeout(
                    f"Provider {self._origin.provider!r} is busy: its {self.limit} connections are all in use."
                ) from None
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                elif waiter.cancelled():
                    self._wake_one()

    def give_back(self, connection: Connection) -> None:
        """End the exchange on ``connection`` and keep it where it can be used again."""
        connection.end()
        self._busy.discard(connection)
        if connection.reusable and not self._closed:
            connection.idle_since = self._loop.time()
            self._idle.append(connection)
            if self._reaper is None:
                self._reaper = self._loop.call_later(KEEPALIVE_SECONDS, self._reap)
        else:
            connection.abort()
        self._wake_one()

    def close(self) -> None:
        """Close everything, what is in use too."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        for connection in (*self._idle, *self._busy):
            connection.abort()
        self._idle.clear()

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _connect(self, deadline: float) -> Connection:
        origin = self._origin
        self._connecting += 1
        try:
            async with asyncio.timeout_at(min(deadline, self._loop.time() + CONNECT_SECONDS)):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(origin.provider, self._loop), origin.host, origin.port, ssl=origin.tls,
                    server_hostname=origin.host if origin.tls is not None else None,
                )  # fmt: skip
        except TimeoutError:
            raise connection_error(origin.provider, reason="connecting took too long") from None
        except ssl.SSLError as error:
            raise connection_error(origin.provider, reason=f"TLS: {error.reason or type(error).__name__}") from error
        except OSError as error:
            raise connection_error(origin.provider, reason=error.strerror or type(error).__name__) from error
        else:
            self._busy.add(connection)
            return connection
        finally:
            self._connecting -= 1
            if len(self._busy) + self._connecting < self.limit:
                self._wake_one()

    def _reap(self) -> None:
        """Close what was idle for too long: before the other side does, in the middle of a request of ours."""
        self._reaper = None
        oldest = self._loop.time() - KEEPALIVE_SECONDS
        while self._idle and (self._idle[0].idle_since <= oldest or not self._idle[0].reusable):
            self._idle.popleft().abort()
        if self._idle:
            self._reaper = self._loop.call_at(self._idle[0].idle_since + KEEPALIVE_SECONDS, self._reap)
