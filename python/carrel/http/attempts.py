"""Failed authentications by address, in a sliding window, in bounded memory."""

from collections import OrderedDict, deque
from ipaddress import IPv6Address, ip_address

from carrel.clock import Clock


class FailedAttempts:
    """Counts failures of an address. Good credentials are never held up: behind one proxy live many callers."""

    def __init__(self, clock: Clock, *, limit: int, window: float, addresses: int = 10_000) -> None:
        self._clock = clock
        self._limit = limit
        self._window = window
        self._capacity = addresses
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def record(self, address: str) -> float | None:
        """Note one failure; the seconds to wait where there were too many in the window, else None."""
        now = self._clock.monotonic()
        times = self._failures.setdefault(_network(address), deque(maxlen=self._limit))
        self._failures.move_to_end(_network(address))
        while len(self._failures) > self._capacity:
            self._failures.popitem(last=False)
        while times and times[0] <= now - self._window:
            times.popleft()
        if len(times) >= self._limit:
            return times[0] + self._window - now
        times.append(now)
        return None


def _network(address: str) -> str:
    """An IPv6 caller owns its /64; everything else is told apart whole."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
