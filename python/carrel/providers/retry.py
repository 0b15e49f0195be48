"""Trying a call again: before its first byte only, with growing waits, and never past the call's deadline."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from carrel.clock import Clock
from carrel.errors import UpstreamError, UpstreamTimeout

T = TypeVar("T")
_log = structlog.get_logger(__name__)

FIRST_WAIT_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 8.0
LONGEST_RETRY_AFTER_SECONDS: Final = 60.0
"""A vendor that asks for a longer wait than this is not waited for: the caller is told when to come back."""


def may_retry(error: BaseException) -> bool:
    """Whether ``error`` is worth another try; a deadline that ran out is not."""
    return (
        isinstance(error, UpstreamError)
        and error.retryable
        and not isinstance(error, UpstreamTimeout)
        and (error.retry_after is None or error.retry_after <= LONGEST_RETRY_AFTER_SECONDS)
    )


async def with_retries(
    attempt: Callable[[], Awaitable[T]], *, max_retries: int, clock: Clock, deadline: float, provider: str
) -> T:
    """The first good result of ``attempt``, tried ``1 + max_retries`` times at most.

    ``deadline`` is on the clock's monotonic scale: a wait that would pass it is not begun, and the error is raised
    that came last. Waits double from half a second, with jitter; ``Retry-After`` is honoured where it is longer.
    """
    growing = wait_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS)
    backoff = growing + wait_random(0, FIRST_WAIT_SECONDS)

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.retry_after if isinstance(error, UpstreamError) and error.retry_after is not None else 0.0
        return max(backoff(state), asked)

    def stop(state: RetryCallState) -> bool:
        return stop_after_attempt(1 + max_retries)(state) or clock.monotonic() + state.upcoming_sleep >= deadline

    def note(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        _log.info(
            "calling the provider again",
            provider=provider,
            attempt=state.attempt_number,
            status=getattr(error, "status", None),
            wait_seconds=round(state.upcoming_sleep, 3),
        )

    retrying = AsyncRetrying(
        retry=retry_if_exception(may_retry),
        stop=stop,
        wait=wait,
        sleep=clock.sleep,
        before_sleep=note,
        reraise=True,
    )

    async def once() -> T:
        return await attempt()

    return await retrying(once)
