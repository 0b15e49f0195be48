"""What takes long to make, as a document of all methods: made in a thread at the first asking, and kept."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class MadeOnce(Generic[T]):
    """One such thing. It may not depend on who asks."""

    def __init__(self) -> None:
        self._made: T | None = None
        self._making = asyncio.Lock()

    async def get(self, make: Callable[[], T]) -> T:
        """It, by the first caller's ``make``; who comes meanwhile waits for that. Raises what ``make`` does."""
        if self._made is None:
            async with self._making:
                if self._made is None:
                    self._made = await asyncio.to_thread(make)
        return self._made
